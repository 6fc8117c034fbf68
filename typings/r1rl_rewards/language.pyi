from rewards.language import share as share
