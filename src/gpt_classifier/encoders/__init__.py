"""Encoders such as BERT as backbones, through the modules of the transformers library, which only they import."""
