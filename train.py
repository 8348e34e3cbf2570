"""Fine-tune a GPT into a text classifier: python train.py model=gpt2-medium freeze=last_block"""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from gpt_classifier.config import readable_errors

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> float:
    with readable_errors():
        return instantiate(cfg.procedure)(cfg)  # seconds of imports that --help does not need


if __name__ == "__main__":
    main()
