from rewards.reward_model import scored_ids as scored_ids
