from rewards.texts import part_of as part_of
from rewards.texts import summary_of as summary_of
from rewards.texts import texts_of as texts_of
from rewards.texts import thought_of as thought_of
