"""The decision point: what to do about a knock, and why, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import NormalDist

from refit import costs, schedule, times
from refit.batches import Upload
from refit.models import REFRESHING, ModelSpec, Training
from refit.prose import counted
from refit.records import TESTED_LOW

# When drift or a fallen score speaks, this share of what was known is enough to look; so many usual uploads always are.
SIGNAL_SHARE, SIGNAL_UPLOADS = 0.12, 4
PATIENCE, MOST_PATIENCE = 1.5, 8.0  # how many times longer after each run that gained nothing
MOST_GROWTH = 4.0  # what `growth` is doubled up to; it is halved down to SIGNAL_SHARE
# Shares of what the champion has over the trivial baseline: a gain that shows that there is something to learn, and a
# loss that is looked at without waiting for rows, in so many runs.
WORTHWHILE, COLLAPSE, AT_ONCE = 0.01, 0.5, 6
AFTER_COLLAPSE = ("full", "recent", "transfer")
Z_LOW = -NormalDist().inv_cdf(TESTED_LOW)


class Trigger(StrEnum):
    """Who knocks."""

    DATA = "data"  # a batch was accepted and its drift checked
    ALARM = "alarm"  # the quality metric fell, or an alarm that people named
    INTERVAL = "interval"
    ON_DEMAND = "on_demand"
    BACKFILL = "backfill"
    PENDING = "pending"  # a knock that waited gets its turn


class Answer(StrEnum):
    RETRAIN = "retrain"
    WAIT = "wait"
    SKIP = "skip"


@dataclass(frozen=True)
class Knock:
    """A wish for a retraining. `knock_id` is the same however often the wish is delivered."""

    knock_id: str
    model: str
    trigger: Trigger
    reason: str
    requested_by: str
    at: str
    force: bool = False
    drifted: tuple[str, ...] = ()  # messages of the columns that drifted
    batch_id: str = ""
    resumes: str = ""  # a failed run whose frozen inputs are to be run again
    waited: str = ""  # of one that waited and has its turn: the trigger that it came with


@dataclass(frozen=True)
class Tried:
    """A run that has ended, as far as a decision cares."""

    run_id: str
    promoted: bool
    started_at: str
    data_until: str  # newest time of its data; empty without a time column
    rows: int  # all that it could learn from
    candidates: int = 1
    gain: float | None = None  # of the challenger over the champion, on the test block
    lift: float | None = None  # of the challenger over the trivial baseline
    judged: bool = True  # not where the champion moved meanwhile: its rows are as new as before

    @property
    def worthwhile(self) -> bool:
        """Whether it showed that there was something to learn."""
        if self.gain is None or self.lift is None:
            return self.promoted
        return self.gain >= WORTHWHILE * self.lift


@dataclass(frozen=True)
class Scored:
    """The champion's score on a batch that it had not learned from."""

    batch_id: str
    score: float
    floor: float  # what sampling alone may make of the tested score, given the batches before
    rows: int
    at: str


@dataclass(frozen=True)
class Shown:
    """A score on a test block, and what sampling alone may make of it."""

    score: float
    low: float
    rows: int


@dataclass(frozen=True)
class Resumed:
    """The run that a knock wants to resume, as it stands now."""

    run_id: str
    status: str
    same_champion: bool  # the one it was to be compared with
    same_model: bool  # model.toml and model.py are those of its inputs
    retracted: tuple[str, ...] = ()  # uploads among its inputs that were retracted since


FOREVER = "9999-12-31T00:00:00Z"  # until a person resumes


@dataclass(frozen=True)
class Hold:
    """Retraining put off until a time, by a backfill or a person."""

    until: str
    reason: str
    by: str

    def __str__(self) -> str:
        if self.until == FOREVER:
            return f"on hold until resumed, by {self.by}: {self.reason}"
        return f"on hold until {self.until} by {self.by}: {self.reason}"


@dataclass(frozen=True)
class State:
    """What a decision looks at."""

    inputs: Sequence[Upload]  # what would be learned from, oldest first
    inputs_digest: str
    champion: str | None  # version
    learned: frozenset[str]  # batch ids the champion learned from
    running: str | None = None  # run id
    pending: bool = False
    last_run: str | None = None
    last_digest: str = ""  # inputs of the last finished run
    hold: Hold | None = None
    resumes: Resumed | None = None
    left_out: tuple[str, ...] = ()  # accepted batches that the contract of today cannot use, in words
    runs: Sequence[Tried] = ()  # those that have ended, oldest first
    scored: Sequence[Scored] = ()  # of this champion, oldest first
    tested: Shown | None = None  # what the champion showed when it was tested
    made_as: str = ""  # the candidate that became the champion

    @property
    def last(self) -> Tried | None:
        return self.judged[-1] if self.judged else None

    @property
    def judged(self) -> Sequence[Tried]:
        return [run for run in self.runs if run.judged]

    @property
    def rows(self) -> int:
        return sum(upload.rows for upload in self.inputs)

    @property
    def new_rows(self) -> int:
        return sum(upload.rows for upload in self.inputs if upload.batch_id not in self.learned)

    @property
    def untried(self) -> int:
        """Rows new to the champion that came after the last run, however it ended."""
        since = self.rows - self.last.rows if self.last else self.rows
        return max(0, min(self.new_rows, since))


@dataclass(frozen=True)
class Decision:
    answer: Answer
    reasons: tuple[str, ...]
    look_again_at: str | None = None
    new_rows: int = field(default=0)
    past_misleads: bool = False  # the champion collapsed, or is one that was made since; see `to_train`
    turned: int = 0  # rows of the newest batches on end on which the champion collapsed


def decide(knock: Knock, state: State, spec: ModelSpec, now: str) -> Decision:
    """Answer a knock. Pure: the same knock, state and time give the same answer.

    `now` is ISO 8601 in UTC and orders as text.
    """
    new_rows = state.new_rows

    def answer(which: Answer, *reasons: str, again: str | None = None) -> Decision:
        return Decision(which, (*reasons, *state.left_out), again, new_rows)

    if knock.trigger is Trigger.PENDING and not state.pending:
        return answer(Answer.SKIP, "nothing waits for its turn")
    if state.resumes:
        problem = _not_resumable(state.resumes, state, spec.name, now)
        return answer(
            Answer.SKIP if problem else Answer.RETRAIN,
            problem or f"{state.resumes.run_id} again on its own inputs: {knock.reason}",
        )
    if state.hold and state.hold.until > now:
        return answer(
            Answer.WAIT,
            str(state.hold),
            again=state.hold.until,
        )
    if not state.inputs and state.left_out:
        return answer(Answer.SKIP, "no accepted batch can be learned from under the contract of today")
    if not state.inputs:
        return answer(Answer.SKIP, f"nothing accepted yet; drop files under incoming/{spec.name}/")
    if state.running:
        turn = "already pending" if state.pending else "pending"
        return answer(
            Answer.WAIT, f"{state.running} is running; {turn}, one run after it learns from all new data"
        )
    if state.inputs_digest == state.last_digest and not knock.force:
        return answer(
            Answer.SKIP,
            f"{state.last_run} already ran on exactly these inputs; add data, change the model, or use --force",
        )
    if new_rows == 0:
        return answer(
            Answer.SKIP, "every accepted row is known to the champion; nothing is left to compare models on"
        )
    missing = sufficient(spec, several=state.champion is not None) - new_rows
    if missing > 0 and not knock.force:
        return answer(
            Answer.SKIP,
            f"{new_rows} new rows, {new_rows + missing} are needed to prove a gain: {missing} are missing",
        )
    fell = False
    asked = {knock.trigger, knock.waited} & {Trigger.ON_DEMAND, Trigger.BACKFILL}
    if state.champion is None:
        # Found wanting, not failed: of the rows of a run that failed nothing is known.
        wanting = state.last if state.last and state.last.lift is not None else None
        due = growth_due(state, spec) if wanting and not asked and not knock.force else None
        if wanting and due and state.untried < due:
            told = (
                f"{state.untried} rows since {wanting.run_id}, which made no champion; {due} are waited for"
            )
            return answer(Answer.SKIP, told)
        reasons = [f"no champion yet and {new_rows} rows to learn from"]
    elif asked and knock.trigger is Trigger.PENDING:
        reasons = [f"pending since {knock.at}: {knock.reason}", f"{new_rows} new rows"]
    elif asked:
        reasons = [f"asked by {knock.requested_by}: {knock.reason}", f"{new_rows} new rows"]
    else:
        found = _evidence(knock, state, spec, new_rows)
        reasons, fell = list(found.reasons), found.collapsed
        if not reasons:
            return answer(Answer.SKIP, *found.quiet)
        if new_rows < found.needed and not knock.force:
            return answer(
                Answer.SKIP,
                f"{new_rows} new rows, about {found.needed} are needed to prove {found.proof}: "
                f"{found.needed - new_rows} are missing",
                *reasons,
            )
        cooling = None if knock.force or knock.trigger is Trigger.INTERVAL else _cooling(state, spec, now)
        if cooling:
            until, again = cooling
            which = Answer.WAIT if again else Answer.SKIP
            of_what = "" if again else "; the next upload knocks again"
            told = f"cooldown of {spec.triggers.cooldown} after {state.last.run_id} until {until}"  # type: ignore[union-attr]
            return answer(which, told + of_what, *reasons, again=again)
    if not knock.force and (spent := _spent(state, spec, now)):
        return answer(Answer.WAIT, spent, *reasons, again=_next_month(now))
    misleads = fell or state.made_as in AFTER_COLLAPSE[1:]
    return replace(answer(Answer.RETRAIN, *reasons), past_misleads=misleads, turned=_turned(state))


def to_train(decision: Decision, spec: ModelSpec) -> ModelSpec:
    """The declaration with the candidates of a run.

    Where the champion has collapsed, all history would teach what no longer holds. Then, and as long as such a one
    serves, models that begin with the newest rows compete as well, if people have declared no candidates of their own and the rows are enough to choose.
    """
    more = replace(spec, training=replace(_of_turned_rows(decision, spec), candidates=AFTER_COLLAPSE))
    undeclared = spec.training.candidates == Training().candidates
    return more if decision.past_misleads and undeclared and decision.new_rows >= sufficient(more) else spec


def _of_turned_rows(decision: Decision, spec: ModelSpec) -> Training:
    """Blocks cut from the rows since the turn alone, and a window of what is left of those to learn from.

    Cut from all that the champion has not learned from, they would take every row of the new world until it
    outweighs the unlearned rest of the old one by half: nobody could learn it.
    """
    training, new = spec.training, decision.new_rows
    turned = min(decision.turned, new)
    if not turned:
        return training
    part, least = turned / new, spec.gates.min_test_rows
    test = min(training.test_share, max(training.test_share * part, (least + 1) / new))
    selection = min(training.selection_share, max(training.selection_share * part, (least // 2 + 1) / new))
    window = max(1, turned - int(new * test) - int(new * selection))
    return replace(training, test_share=test, selection_share=selection, recent_rows=window)


def _turned(state: State) -> int:
    found = 0
    for scored in reversed(state.scored):
        if not collapsed(state, scored):
            break
        found += scored.rows
    return found


def sufficient(spec: ModelSpec, several: bool = True) -> int:
    """New rows below which nothing could be proved: they must fill the test block, and the selection block beside it.

    `min_new_rows` of the declaration asks for more.
    """
    training, least = spec.training, spec.gates.min_test_rows
    needed = math.ceil(least / training.test_share)
    if several and len(training.candidates) > 1:
        needed = max(needed, math.ceil(least // 2 / training.selection_share))
    if not several:  # of the rows of a first model, as many are left to learn from
        needed = max(needed, math.ceil(least / (1 - training.test_share)))
    return max(needed, spec.triggers.min_new_rows, 1)


def lift_of(score: float | None, baseline: float | None) -> float | None:
    """What a score has over that of who learned nothing; None when either is not known."""
    return None if score is None or baseline is None else score - baseline


def growth_due(state: State, spec: ModelSpec) -> int | None:
    """Rows after the last run at which a challenger is worth a try of its own accord; None where that is off.

    A share of what was known at that run. The share starts as declared; each run whose challenger gained halves it,
    each other one doubles it: where there is much to learn it is looked at often, where the world stands still ever
    more rarely, and the runs grow like the logarithm of the rows.
    """
    share = spec.triggers.growth
    if not share or state.last is None:
        return None
    for run in state.judged[1:]:  # the first made the first model, and says nothing of change
        share = max(min(SIGNAL_SHARE, share), share / 2) if run.worthwhile else min(MOST_GROWTH, share * 2)
    return max(1, math.ceil(share * state.last.rows))


def signal_due(state: State) -> int:
    """Rows after the last run at which drift or a fallen score start one: waits longer after each that gained nothing."""
    if state.last is None:
        return 0
    most = SIGNAL_UPLOADS * _usual(state)
    return math.ceil(min(SIGNAL_SHARE * state.last.rows, most) * _patience(state))


def _usual(state: State) -> int:
    """Rows of a usual upload: the median."""
    rows = sorted(upload.rows for upload in state.inputs)
    return rows[len(rows) // 2]


def _patience(state: State) -> float:
    idle = 0
    for run in reversed(state.judged[1:]):
        if run.worthwhile:
            break
        idle += 1
    return min(PATIENCE**idle, MOST_PATIENCE)


def _runs_since_collapse(state: State) -> int:
    first = next(scored.at for scored in state.scored if collapsed(state, scored))
    return sum(run.started_at >= first for run in state.runs)


def shortfall(state: State, but: str = "") -> list[Scored]:
    """The champion's batches since the last run on which it fell below its floor. `but`: a batch left out."""
    since = state.last.started_at if state.last else ""
    return [s for s in state.scored if s.score < s.floor and s.at > since and s.batch_id != but]


def collapsed(state: State, scored: Scored) -> bool:
    """Whether a score has lost half of what its model had over the trivial baseline."""
    lift = _lift(state)
    return bool(lift and state.tested and state.tested.score - scored.score > COLLAPSE * lift)


def _lift(state: State) -> float | None:
    """What the champion had over the trivial baseline when it was tested."""
    return next((run.lift for run in reversed(state.runs) if run.promoted), None)


def refresh_may_lose(state: State, spec: ModelSpec) -> float:
    """What the gates allow the next run to lose where its challenger is the champion's own recipe; else 0."""
    own = state.made_as in REFRESHING and state.made_as in spec.training.candidates
    return spec.gates.may_lose(_lift(state)) if own else 0.0


def rows_to_prove(gain: float, tested: Shown, spec: ModelSpec) -> int:
    """New rows whose test block would show a gain of that size; `gain` is its distance to what has to be cleared.

    Two models that share most of what they know err together, so their difference spreads about as one score does.
    """
    spread = (tested.score - tested.low) * math.sqrt(tested.rows) / Z_LOW
    if gain <= 0 or spread <= 0:
        return 0
    z = NormalDist().inv_cdf(spec.gates.confidence)
    return math.ceil((z * spread / gain) ** 2 / spec.training.test_share)


@dataclass(frozen=True)
class _Evidence:
    """`reasons` start a run, `needed` are the new rows with which it could prove something; `quiet` is what does not."""

    reasons: tuple[str, ...]
    quiet: tuple[str, ...] = ()
    needed: int = 0
    proof: str = ""
    collapsed: bool = False


def _evidence(knock: Knock, state: State, spec: ModelSpec, new_rows: int) -> _Evidence:
    """What speaks for a retraining and what does not yet, in words and numbers."""
    triggers, reasons, quiet = spec.triggers, [], []
    signal, proof, needed, fell = signal_due(state), "", 0, False
    waiting = f"{state.untried} rows since {state.last.run_id}, {signal} are waited for" if state.last else ""
    if knock.drifted and triggers.drift:
        told = f"drift in {counted(len(knock.drifted), 'column')}: " + "; ".join(knock.drifted[:3])
        if state.untried >= signal:
            reasons.append(told)
        else:
            quiet += [told, waiting]
    elif knock.drifted:
        quiet.append("drift does not start a retraining of this model")
    elif knock.trigger is Trigger.DATA:
        quiet.append("no column drifted")
    # Of the batch that knocks the alarm speaks; it may not have been scored yet.
    fallen = shortfall(state, but="" if knock.trigger is Trigger.ALARM else knock.batch_id)
    if fallen and triggers.quality:
        worst = min(fallen, key=lambda s: s.score - s.floor)
        tested = f", it was tested at {state.tested.score:.4f}" if state.tested else ""
        told = (
            f"{state.champion} scored {worst.score:.4f} on {worst.rows} rows that it had not learned from, below "
            f"{worst.floor:.4f}{tested}"
        )
        fell = collapsed(state, worst)
        at_once = fell and _runs_since_collapse(state) < AT_ONCE
        if state.tested:
            gain = state.tested.score - worst.score
            allowed, proof = refresh_may_lose(state, spec), f"a gain of {gain:.4f}"
            if allowed:
                proof = f"that a gain of {gain:.4f} is no loss beyond {allowed:.4f}"
            needed = rows_to_prove(gain + allowed, state.tested, spec)
            needed = min(needed, SIGNAL_UPLOADS * _usual(state))
        if at_once or state.untried >= signal:
            reasons.append(told)
        else:
            quiet += [told] + ([waiting] if waiting not in quiet else [])
    elif knock.trigger is Trigger.ALARM:
        # People's own alarm, or one of ours that the records say nothing of: what they watch is theirs to judge.
        reasons.append(knock.reason)
    marks = []
    if triggers.new_rows:
        marks.append(triggers.new_rows)
        if state.untried >= triggers.new_rows:
            reasons.append(f"{state.untried} new rows reach the {triggers.new_rows} that start a retraining")
    due = growth_due(state, spec)
    if due is not None and state.last:
        marks.append(due)
        if state.untried >= due:
            reasons.append(
                f"{state.untried} rows since {state.last.run_id}, which knew {state.last.rows}: from {due} on a "
                "challenger is worth a try"
            )
    if knock.trigger is Trigger.INTERVAL:
        reasons.append(knock.reason)
    if knock.trigger is Trigger.PENDING:
        reasons.append(f"pending since {knock.at}: {knock.reason}")
    if reasons:
        return _Evidence((*reasons, f"{new_rows} new rows"), (), needed, proof, fell)
    quiet.append(
        f"{state.untried} new rows of the {min(marks)} that start a retraining"
        if marks
        else f"{new_rows} new rows do not start one by themselves"
    )
    return _Evidence((), tuple(quiet))


def _cooling(state: State, spec: ModelSpec, now: str) -> tuple[str, str | None] | None:
    """Until when the cooldown lasts and when to look again; None when it is over.

    Of the data's time where there is one: then only new data end it, and they knock themselves.
    """
    if not spec.triggers.cooldown or state.last is None:
        return None
    of_data = bool(spec.contract.time and state.last.data_until)
    newest = max((upload.period[1] for upload in state.inputs if upload.period), default="")
    until = schedule.after(
        spec.triggers.cooldown, state.last.data_until if of_data else state.last.started_at
    )
    if (newest if of_data else now) >= until:
        return None
    return (f"the data of {until}", None) if of_data else (until, until)


def _spent(state: State, spec: ModelSpec, now: str) -> str:
    """Why the month's budget does not allow another run; empty when it does. A calendar month of wall time."""
    triggers, month = spec.triggers, now[:7]
    runs = [run for run in state.runs if run.started_at[:7] == month]
    if triggers.budget_runs and len(runs) >= triggers.budget_runs:
        return f"{len(runs)} runs in {month}, budget_runs allows {triggers.budget_runs} a month"
    if triggers.budget_usd:
        spent = sum(costs.of_run(run.rows, run.candidates).usd for run in runs)
        this = costs.of_run(state.rows, len(spec.training.candidates)).usd
        if spent + this > triggers.budget_usd:
            return (
                f"about ${spent:.2f} spent in {month} and this run would cost about ${this:.2f}; budget_usd allows "
                f"${triggers.budget_usd:.2f} a month"
            )
    return ""


def _next_month(now: str) -> str:
    moment = times.moment(now)
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    return f"{year:04d}-{month:02d}-01T00:00:00Z"


def _not_resumable(run: Resumed, state: State, model: str, now: str) -> str:
    # It does not wait for its turn: the one place for that is for what learns from all new data.
    if state.hold and state.hold.until > now:
        return f"on hold by {state.hold.by}: {state.hold.reason}; resume {run.run_id} after: refit resume {model}"
    if state.running:
        return f"{state.running} is running; resume {run.run_id} when it has ended"
    if run.status != "failed":
        return f"{run.run_id} has ended as {run.status}; only a failed run is resumed"
    instead = f"; instead: refit retrain {model} --force --reason WHY"
    if not run.same_champion:
        return f"the champion that {run.run_id} was to be compared with serves no more{instead}"
    if not run.same_model:
        return f"model.toml or model.py changed since {run.run_id} started{instead}"
    if run.retracted:
        return f"{', '.join(run.retracted[:3])} was retracted since {run.run_id} started{instead}"
    return ""


def interval_due(
    spec: ModelSpec, inputs: Sequence[Upload], last_start: str, last_data: str, now: str
) -> str | None:
    """The moment at which the model's interval was due and not yet served; None when it was not.

    Where the model has a time column, N hours or days are of the data's time:
    a month that arrives in a minute is a month. A cron expression is wall time.

    Parameters
    ----------
    last_start, last_data
        Start of the last run and the newest time of its data; empty before the first run.
    """
    every = spec.triggers.every
    if not every or not inputs or not last_start:
        return None  # the first model is made when its first data arrive
    if schedule.length(every) and spec.contract.time:
        periods = [upload.period for upload in inputs if upload.period]
        if not periods:
            return None
        # A last run without data times was before the model had a time column: all of them are new.
        since = last_data or min(first for first, _ in periods)
        return schedule.due(every, since, max(last for _, last in periods))
    return schedule.due(every, last_start, now)
