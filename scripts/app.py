"""python scripts/app.py …: the same as gpt-classifier app …"""

from gpt_classifier.commands.app import main

if __name__ == "__main__":
    main()
