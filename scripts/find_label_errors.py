"""python scripts/find_label_errors.py …: the same as gpt-classifier find-label-errors …"""

from gpt_classifier.commands.find_label_errors import main

if __name__ == "__main__":
    main()
