"""What a stage learned from, so that a later run can tell whether its results are still valid.

``keys`` says what a changed configuration key does, ``content`` and ``code`` hash files and source code, ``identity``
combines them and compares two of them, ``mark`` stores one in the stage's folder. ``docs/resume.md`` describes the
same for users. Imports no torch.
"""
