"""A search for hyperparameters: trials one after another, each proposed by what the earlier ones found.

Optuna proposes and prunes (Akiba et al., 2019). What it knows is in one SQLite file, so that a search that was broken
off goes on; what each trial left is in a folder of its own.
"""

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.config import instantiate
from gpt_classifier.errors import UserError, first_line, with_causes
from gpt_classifier.faults import keep_traceback, paragraph_of
from gpt_classifier.paths import near
from gpt_classifier.sweeps.pruning import Pruning
from gpt_classifier.sweeps.results import RECORD, Findings, Record, Sweep, SweepRun, metric_name, shown
from gpt_classifier.sweeps.space import Range, Space
from gpt_classifier.training.context import RunContext

try:
    import optuna
    from optuna.trial import TrialState
    from sqlalchemy import URL
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise UserError('search needs Optuna, the extra search: pip install ".[search]"') from error

log = logging.getLogger(__name__)

STUDY = "search"
DATABASE = "search.db"
"""What Optuna knows, in the folder of a search."""

FEWEST = 4  # trials that ended, from which anything is concluded on the importance of options
MOST_FAILURES = 3  # of the first trials: then it is not their values that are wrong


@dataclass(frozen=True)
class Settings:
    """What makes a search; with others it is another search.

    Args:
        overrides: of all trials, as on the command line.
        space: options that are searched, and their values.
        seed: of what is proposed.
        minimize: whether less of the monitored metric is better.
    """

    overrides: Sequence[str]
    space: Space
    seed: int
    minimize: bool = False

    def described(self) -> dict[str, str]:
        """As texts to compare and to show."""
        searched = {f"hparams_search.space.{key}": str(parameter) for key, parameter in self.space.items()}
        return {"options": " ".join(sorted(self.overrides)), "hparams_search.seed": str(self.seed), **searched}


class Search:
    """A search in a folder.

    Args:
        folder: of the search; one that was broken off there is gone on with.
        settings: what is searched.
        train: trains with overrides, in a `RunContext`, and leaves what `train` leaves in its folder.
        sampler: of Optuna, by its node `_target_`; it is made anew for each trial, with a seed of its own.
        pruner: of Optuna, likewise; `None` lets every trial end.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        train: Callable[[Sequence[str], RunContext], object],
        sampler: DictConfig,
        pruner: DictConfig | None = None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self._train = train
        self._sampler = sampler
        self._pruner = instantiate(pruner) if pruner else optuna.pruners.NopPruner()

    def run(self, trials: int) -> None:
        """Run trials until there are so many; those of earlier calls count.

        Args:
            trials: that are wanted, the default among them.

        Raises:
            UserError: the folder is in use, holds another search or a damaged one, or the first trials all failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0), self._readable_errors(), _quiet_optuna():
                self._take_up()
                if not self._study.trials:
                    self._run_default(trials)
                while (count := self._count()) < trials:
                    self._run_next(count, trials)
        except Timeout as error:
            raise UserError(f"{self.folder}: another search is running there. Set another hydra.run.dir.") from error

    def sweep(self) -> Sweep:
        """The trials so far."""
        with self._readable_errors(), _quiet_optuna():
            return Sweep(self.folder, self._runs(), found=self._findings())

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = first_line(with_causes(error)[-1])
            raise UserError(
                f"{self.folder / DATABASE} can't be used: {reason}. If the disk is full or can't be written, change "
                f"that; if the file is damaged, search anew in another folder (hydra.run.dir). The trials stay."
            ) from error

    @cached_property
    def _storage(self) -> "optuna.storages.RDBStorage":
        url = URL.create("sqlite", database=str(self.folder / DATABASE))
        return optuna.storages.RDBStorage(url.render_as_string(hide_password=False))

    @cached_property
    def _study(self) -> "optuna.Study":
        directions = optuna.study.StudyDirection
        direction = directions.MINIMIZE if self.settings.minimize else directions.MAXIMIZE
        study = optuna.create_study(
            storage=self._storage, study_name=STUDY, direction=direction, pruner=self._pruner, load_if_exists=True
        )
        self._expect_same(study)
        return study

    def _expect_same(self, study: "optuna.Study") -> None:
        ours, theirs = self.settings.described(), study.user_attrs.get("settings")
        if theirs is None:
            study.set_user_attr("settings", ours)
            return
        for key in [*ours, *theirs]:
            if ours.get(key) != theirs.get(key):
                before, now = theirs.get(key, "not searched"), ours.get(key, "not searched")
                raise UserError(
                    f"{near(self.folder)} holds another search: {key} was {before}, and is now {now}. Repeat its "
                    f"options to go on with it, or set another hydra.run.dir."
                )

    def _take_up(self) -> None:
        """Propose again what was interrupted. Where every trial failed, what was wrong may be mended: begin anew."""
        runs = self._runs()
        if runs and all(run.record.status == "failed" for run in runs):
            optuna.delete_study(study_name=self._study.study_name, storage=self._storage)
            del self._study
            for run in runs:
                shutil.rmtree(run.folder)
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
            self._study.tell(trial.number, state=TrialState.FAIL)
            shutil.rmtree(self._place(trial.number), ignore_errors=True)
        if done := self._count():
            log.info("%s has %d finished trial%s, and goes on", near(self.folder), done, "s" if done > 1 else "")

    def _count(self) -> int:
        """Trials that ended, by themselves or by an error."""
        trials = self._study.get_trials(deepcopy=False)
        return sum(trial.state.is_finished() for trial in trials) - sum("again" in trial.user_attrs for trial in trials)

    def _place(self, number: int) -> Path:
        return self.folder / "trials" / str(number)

    def _runs(self) -> list[SweepRun]:
        folders = [path.parent for path in (self.folder / "trials").glob(f"*/{RECORD}")]
        return sorted(map(SweepRun.read, folders), key=lambda run: run.record.number)

    def _run_default(self, trials: int) -> None:
        """The configuration as it is, which the search can't end behind: nothing is chosen, and nothing pruned."""
        validated: dict[int, float] = {}

        def keep(epoch: int, value: float) -> bool:
            validated[epoch] = value
            return False

        log.info("trial 0 (1 of %d): the default", trials)
        run = self._run(0, {}, keep)
        params = self._proposals(run)
        whole = run.record.status == "finished" and None not in params.values()
        distributions = {key: parameter.distribution() for key, parameter in self.settings.space.items()}
        trial = optuna.trial.create_trial(  # Optuna learns from trials that have a value for every option
            state=TrialState.COMPLETE if whole else TrialState.FAIL,
            value=_score(run) if whole else None,
            params=params if whole else {},
            distributions=distributions if whole else {},
            intermediate_values=validated,
        )
        self._study.add_trial(trial)
        self._tell(run)

    def _proposals(self, run: SweepRun) -> dict[str, Any]:
        return {
            key: parameter.proposal(run.record.varied.get(key, "")) for key, parameter in self.settings.space.items()
        }

    def _run_next(self, count: int, trials: int) -> None:
        # a seed for each trial: a search that was interrupted proposes what it would have proposed without
        seed = int(np.random.SeedSequence([self.settings.seed, count]).generate_state(1)[0])
        self._study.sampler = instantiate(self._sampler, seed=seed)
        trial = self._study.ask({key: parameter.distribution() for key, parameter in self.settings.space.items()})
        varied = {key: parameter.text(trial.params[key]) for key, parameter in self.settings.space.items()}
        chosen = " ".join(f"{key}={value}" for key, value in varied.items())
        log.info("trial %d (%d of %d): %s", trial.number, count + 1, trials, chosen)
        known = next((run for run in self._runs() if run.record.varied == varied and run.found), None)
        if known is not None:  # it would give the same again
            self._end(trial, known)
            log.info("    the same as trial %d", known.record.number)
            return

        def is_hopeless(epoch: int, value: float) -> bool:
            trial.report(value, epoch)
            return trial.should_prune()

        run = self._run(trial.number, varied, is_hopeless)
        self._end(trial, run)
        self._tell(run)

    def _end(self, trial: "optuna.Trial", run: SweepRun) -> None:
        if run.record.status == "finished":
            self._study.tell(trial, _score(run))
        else:
            self._study.tell(trial, state=TrialState.PRUNED if run.record.status == "pruned" else TrialState.FAIL)

    def _run(self, number: int, varied: Mapping[str, str], is_hopeless: Callable[[int, float], bool]) -> SweepRun:
        """One trial in its folder, whatever becomes of it.

        Raises:
            UserError: no trial can do without what is missing.
        """
        folder = self._place(number)
        shutil.rmtree(folder, ignore_errors=True)
        chosen = [f"{key}={value}" for key, value in varied.items()]
        record = Record(number, dict(varied), [*self.settings.overrides, *self._same_metric(), *chosen])
        record.write(folder)
        pruning = Pruning(is_hopeless)
        try:
            with _logging_to(folder / "train.log", logging.WARNING if number == 0 else logging.ERROR):
                context = RunContext(folder, sweep=True, varied=varied, callbacks=[pruning])
                self._train(record.overrides, context)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError):  # of the search, not of the trial
            raise
        except Exception as error:
            return self._failed(folder, record, error)
        record = replace(record, status="pruned" if pruning.epoch else "finished")
        if pruning.epoch:
            record = replace(record, reason=f"ended after epoch {pruning.epoch}, behind the others at that epoch")
        record.write(folder)
        return self._settled(SweepRun.read(folder))

    def _settled(self, run: SweepRun) -> SweepRun:
        """A run that ended, its record completed by what is known now, and without the weights of worse ones."""
        record = run.record
        if not run.measured("val"):
            raise UserError(
                "search: trials are compared by validation, but there are no validation messages. Set "
                "data.val_fraction to more than 0, or data.val_path."
            )
        if not record.varied:
            record = replace(record, varied=_chosen_by_itself(run, self.settings.space))
            record = replace(record, overrides=[*self.settings.overrides, *self._same_metric()])
        if _score(run) is None:
            record = replace(record, status="failed", reason="it diverged: its validation is no number")
        record.write(run.folder)
        self._keep_best_weights()
        return SweepRun.read(run.folder)

    def _same_metric(self) -> list[str]:
        """The override that lets all trials be chosen by the metric that the first was."""
        given = any(override.partition("=")[0].lstrip("+") == "monitor" for override in self.settings.overrides)
        monitored = [run.found["settings"]["monitor"] for run in self._runs() if run.found]
        return [f"monitor={monitored[0]}"] if monitored and not given else []

    def _failed(self, folder: Path, record: Record, error: Exception) -> SweepRun:
        told = paragraph_of(error, keep_traceback(error, folder))
        record = replace(record, status="failed", reason=told or f"{type(error).__name__}: {first_line(error)}")
        record.write(folder)
        runs = self._runs()
        if len(runs) >= MOST_FAILURES and all(run.record.status == "failed" for run in runs):
            if told is None:
                raise error
            raise UserError(f"The first {len(runs)} trials failed, and the search ends. The last: {told}") from error
        return SweepRun.read(folder)

    def _keep_best_weights(self) -> None:
        """Weights of every trial would fill disks."""
        sweep = Sweep(self.folder, self._runs())
        for run in sweep.runs:
            if sweep.best_run and run.folder != sweep.best_run.folder and run.record.status != "interrupted":
                shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)

    def _tell(self, run: SweepRun) -> None:
        best = Sweep(self.folder, self._runs()).best_run
        if not run.found:
            log.info("    failed: %s", run.record.reason)
            return
        metric = run.found["settings"]["monitor"]
        beside = f"; the best so far is trial {best.record.number} with {_shown(best, metric)}" if best else ""
        pruned = f"; {run.record.reason}" if run.record.status == "pruned" else ""
        log.info("    validation %s %s%s%s", metric_name(metric), _shown(run, metric), pruned, beside)

    def _findings(self) -> Findings:
        """By fANOVA (Hutter et al., 2014) with scikit-learn, else by PED-ANOVA (Watanabe et al., 2023)."""
        space = self.settings.space
        logarithmic = [key for key, parameter in space.items() if isinstance(parameter, Range) and parameter.log]
        complete = self._study.get_trials(states=(TrialState.COMPLETE,))
        if len(complete) < FEWEST or len({trial.value for trial in complete}) < 2:
            return Findings({}, "", logarithmic)
        try:
            evaluator: Any = optuna.importance.FanovaImportanceEvaluator(seed=self.settings.seed)
            name = "fANOVA"
        except ImportError:
            evaluator, name = optuna.importance.PedAnovaImportanceEvaluator(), "PED-ANOVA"
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator, params=list(space))
        return Findings(dict(found), name, logarithmic)


def _score(run: SweepRun) -> float | None:
    """The validation metric that it was monitored by, at its best epoch; `None` where it is no number."""
    return run.measured("val").get(run.found["settings"]["monitor"])


def _shown(run: SweepRun, metric: str) -> str:
    return shown([value] if (value := _score(run)) is not None else [], metric)


def _chosen_by_itself(run: SweepRun, space: Space) -> dict[str, str]:
    """What a run had for the options of a space that nobody set, such as the learning rate of its recipe."""
    path = run.folder / "config.yaml"
    config = OmegaConf.load(path) if path.is_file() else OmegaConf.create()
    found = {}
    for key, parameter in space.items():
        value = run.found["settings"].get(key, OmegaConf.select(config, key))
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value)
        found[key] = parameter.text(value) if value is not None else "as given"
    return found


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


@contextmanager
def _logging_to(path: Path, shown_from: int) -> Iterator[None]:
    """Inside, what a trial says is in a file of its own.

    Args:
        path: of the file.
        shown_from: level from which the terminal shows it too: what the first warns of needs no repetition.
    """
    root = logging.getLogger()
    terminal = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    levels = [handler.level for handler in terminal]
    file = logging.FileHandler(path, encoding="utf-8")
    root.addHandler(file)
    for handler in terminal:
        handler.setLevel(shown_from)
    try:
        yield
    finally:
        root.removeHandler(file)
        file.close()
        for handler, level in zip(terminal, levels, strict=True):
            handler.setLevel(level)
