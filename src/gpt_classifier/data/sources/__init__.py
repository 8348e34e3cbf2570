"""Where messages come from. A source is loaded once into `Messages`.

Configurations, those kept by earlier runs too, name sources as `gpt_classifier.data.sources.NAME`.
"""

from gpt_classifier.data.sources.hub import HubDataset
from gpt_classifier.data.sources.imdb import Imdb
from gpt_classifier.data.sources.in_memory import Texts
from gpt_classifier.data.sources.messages import EXTRA, Messages, Source, extra_columns
from gpt_classifier.data.sources.sms import SampleSms, SmsSpam
from gpt_classifier.data.sources.table import Table

__all__ = [
    "EXTRA",
    "HubDataset",
    "Imdb",
    "Messages",
    "SampleSms",
    "SmsSpam",
    "Source",
    "Table",
    "Texts",
    "extra_columns",
]
