"""Pretrain a small GPT on text of your own: python scripts/pretrain.py data.path=english.txt.xz"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from gpt_classifier.config import readable_errors

CONF = Path(__file__).resolve().parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="pretrain")
def main(cfg: DictConfig) -> float:
    with readable_errors():
        from gpt_classifier.pretraining.run import pretrain  # seconds of imports that --help does not need

        return pretrain(cfg)


if __name__ == "__main__":
    main()
