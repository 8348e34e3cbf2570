"""python scripts/predict.py …: the same as gpt-classifier predict …"""

from gpt_classifier.commands.predict import main

if __name__ == "__main__":
    main()
