"""What a stage learned from, so that a later run can tell whether its work still holds.

``keys`` says what a changed configuration key does, ``content`` and ``code`` hash files and source code, ``identity``
puts them together and compares two of them, ``mark`` keeps one in the stage's folder. ``docs/resume.md`` is the same
for users. No torch.
"""
