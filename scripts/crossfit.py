"""python scripts/crossfit.py …: the same as gpt-classifier crossfit …"""

from gpt_classifier.commands.crossfit import main

if __name__ == "__main__":
    main()
