"""python train.py model=gpt2-medium freeze=last_block: the same as gpt-classifier train …"""

from gpt_classifier.commands.train import main

if __name__ == "__main__":
    main()
