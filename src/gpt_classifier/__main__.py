"""python -m gpt_classifier COMMAND"""

from gpt_classifier.commands import main

if __name__ == "__main__":
    main()
