from rewards.accuracy import accuracy as accuracy
