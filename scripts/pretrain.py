"""python scripts/pretrain.py …: the same as gpt-classifier pretrain …"""

from gpt_classifier.commands.pretrain import main

if __name__ == "__main__":
    main()
