"""python scripts/cache.py …: the same as gpt-classifier cache …"""

from gpt_classifier.commands.cache import main

if __name__ == "__main__":
    main()
