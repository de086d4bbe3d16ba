"""The sweep with Lightning and Hydra's own multirun, as their users write it:

`python lightning_sweep.py -m data=DATA 'seed=range(8)' lr=0.003,0.01,0.03,0.05`

DATA is an npz of standardized inputs x (N, 64), classes y (N,) and the positions train, val, test.
Every run leaves metrics.csv and its best checkpoint in Hydra's folder of its job.
"""

import logging
from dataclasses import dataclass
from itertools import pairwise

import hydra
import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from omegaconf import MISSING
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # of devices and tips


@dataclass
class Recipe:
    data: str = MISSING
    seed: int = 0
    lr: float = 0.01
    momentum: float = 0.9
    hidden: tuple[int, ...] = (100, 100)
    batch_size: int = 32
    epochs: int = 10


ConfigStore.instance().store("recipe", Recipe)


class Digits(L.LightningDataModule):
    def __init__(self, file: str, batch_size: int):
        super().__init__()
        self.file, self.batch_size = file, batch_size

    def setup(self, stage: str) -> None:
        with np.load(self.file) as arrays:
            x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
            self.splits = {
                split: TensorDataset(x[arrays[split]], y[arrays[split]])
                for split in ("train", "val", "test")
            }

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.splits["train"], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.splits["val"], len(self.splits["val"]))

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.splits["test"], len(self.splits["test"]))


class Classifier(L.LightningModule):
    def __init__(self, hidden: tuple[int, ...], lr: float, momentum: float):
        super().__init__()
        self.save_hyperparameters()
        layers = [
            layer for n, m in pairwise([64, *hidden]) for layer in (nn.Linear(n, m), nn.ReLU())
        ]
        self.net = nn.Sequential(*layers, nn.Linear(hidden[-1], 10))
        for layer in self.net[::2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def _step(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        accuracy = (logits.argmax(1) == y).float().mean()
        metrics = {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self._step(batch, "test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = self.hparams
        return torch.optim.SGD(self.parameters(), lr=settings.lr, momentum=settings.momentum)


@hydra.main(version_base="1.3", config_path=None, config_name="recipe")
def main(config: Recipe) -> None:
    L.seed_everything(config.seed, verbose=False)
    folder = HydraConfig.get().runtime.output_dir
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        max_epochs=config.epochs,
        logger=CSVLogger(folder),
        callbacks=[
            ModelCheckpoint(monitor="val_loss"),
            EarlyStopping("val_loss", patience=config.epochs),
        ],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    digits = Digits(config.data, config.batch_size)
    trainer.fit(Classifier(tuple(config.hidden), config.lr, config.momentum), digits)
    trainer.test(datamodule=digits, ckpt_path="best", verbose=False)


if __name__ == "__main__":
    main()
