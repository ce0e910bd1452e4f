"""Uploads, knocks, people and failures in any order and any number: what is promised holds all the same."""

import os
from contextlib import suppress

from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger import look, undone
from moto_stack import sample
from rows import csv, parquet
from world import MODEL, Letter, rows, small_world

from refit.records import RunStatus
from refit_cli import actions

DEEP = "REFIT_DEEP" in os.environ  # hours of it, and other cases each time
NAMES = ["a.parquet", "b.parquet", "B.PARQUET", "c.csv"]
ANY = st.integers(0, 9_999)  # one of many, counted from the newest


class AnyOrder(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.opened = small_world()
        self.world = self.opened.__enter__()
        self.seen = look(self.world.app)

    def teardown(self):
        try:
            self.world.rest()
            self.world.holds()
            assert undone(self.seen, look(self.world.app)) == []
        finally:
            self.opened.__exit__(None, None, None)

    # ------------------------------------------------------------ uploads
    @initialize()
    def a_first_model(self):
        self.world.drop("first.parquet", rows(100, seed=1))
        self.world.rest()

    @rule(name=st.sampled_from(NAMES), day=st.integers(2, 6), same_second=st.booleans(), parts=st.booleans())
    def drop_good(self, name, day, same_second, parts):
        frame = rows(120, seed=day, flipped=day % 2 == 0)
        content = csv(frame) if name.endswith(".csv") else parquet(frame)
        self.world.drop(name, content, same_second=same_second, parts=parts)

    @rule(
        name=st.sampled_from(NAMES), content=st.sampled_from([b"", b"no table", csv(rows(3)), b"a,b\n1,2\n"])
    )
    def drop_bad(self, name, content):
        self.world.drop(name, content)

    @rule(which=ANY)
    def delete(self, which):
        put = self.world.puts[-1 - which % len(self.world.puts)]
        assume(not put.deleted)
        self.world.delete(put)

    # ------------------------------------------------------------ mail
    def letter(self, which):
        assume(self.world.mail)
        return self.world.mail[-1 - which % len(self.world.mail)]

    @rule(which=ANY)
    def deliver(self, which):
        self.world.deliver(self.letter(which))

    @rule(which=st.integers(0, 3))
    def deliver_one_of_the_newest(self, which):
        self.world.deliver(self.letter(which))

    @rule()
    def deliver_what_is_left(self):
        self.world.deliver_all()

    @rule(which=ANY)
    def lose(self, which):
        letter = self.letter(which)
        swept = letter.function == "validate" and not letter.put
        assume(not swept)  # a queue loses nothing
        assume(not letter.put or not letter.put.same_second)  # the sweep does not know which came last
        letter.dropped = True

    @rule(second=st.integers(0, 3), state=st.sampled_from(["ALARM", "OK"]))
    def alarm(self, second, state):
        event = sample("request_retraining.alarm")
        event["detail"] |= {"alarmName": f"refit-quality-{MODEL}"}
        event["detail"]["state"] |= {"value": state, "timestamp": f"2013-04-01T06:02:4{second}.108+0000"}
        self.world.mail.append(Letter("request_retraining", event))

    # ------------------------------------------------------------ people and the clock
    @rule(request=st.integers(0, 4), force=st.booleans())
    def ask(self, request, force):
        self.world.ask(f"r{request}", force=force)

    @rule(seconds=st.sampled_from([1, 60, 86_400]))
    def tick(self, seconds):
        self.world.clock.on(seconds=seconds)
        self.world.tick()

    @rule()
    def pause(self):
        actions.pause(self.world.app, self.world.spec, "not now")

    @rule()
    def resume(self):
        with suppress(actions.Refused), self.world.stack.delivering():
            actions.resume(self.world.app, self.world.spec)
        self.world.collect()

    @rule()
    def rollback(self):
        with suppress(actions.Refused):
            actions.rollback(self.world.app, self.world.spec, None, "worse")
        self.world.collect()

    @rule(name=st.sampled_from(NAMES))
    def retract(self, name):
        with suppress(actions.Refused):
            actions.retract(self.world.app, MODEL, name, "wrong")

    # ------------------------------------------------------------ executions
    def execution(self, which):
        return self.world.running()[which % len(self.world.running())]

    @precondition(lambda self: self.world.running())
    @rule(which=ANY, steps=st.integers(1, 4))
    def advance(self, which, steps):
        execution = self.execution(which)
        for _ in range(steps):
            if execution.status == "RUNNING":
                self.world.advance(execution)

    @precondition(lambda self: self.world.running())
    @rule(which=ANY, times=st.integers(0, 2))
    def abort(self, which, times):
        """Step Functions stops waiting; the function that is under way does not stop."""
        execution = self.execution(which)
        self.world.abort(execution)
        for _ in range(times):
            self.world.late_step(execution)

    @precondition(lambda self: self.world.running())
    @rule(which=ANY)
    def a_step_whose_answer_is_lost(self, which):
        self.world.late_step(self.execution(which))

    @precondition(lambda self: self.world.walks)
    @rule(which=ANY)
    def a_late_step(self, which):
        self.world.late_step(list(self.world.walks.values())[which % len(self.world.walks)])

    @rule(which=ANY)
    def forgotten_after_90_days(self, which):
        closed = [walk for walk in self.world.walks.values() if walk.status != "RUNNING"]
        assume(closed)
        self.world.vanish(closed[which % len(closed)])
        started = {walk.name for walk in self.world.running()}
        running = [f"{MODEL}-{run.run_id}" for run in self.runs() if run.status is RunStatus.RUNNING]
        assert started <= set(running)

    # ------------------------------------------------------------ what holds
    def runs(self):
        return self.world.app.registry.runs(MODEL)

    @invariant()
    def nothing_is_undone(self):
        now = look(self.world.app)
        assert undone(self.seen, now) == []
        self.seen = now

    @invariant()
    def one_run_at_most_and_no_gap(self):
        runs = [body for (_, sk), body in self.seen.records.items() if sk.startswith("RUN#")]
        assert sum(run["status"] == "running" for run in runs) <= 1
        found = [body for (_, sk), body in self.seen.records.items() if sk.startswith("GENERATION#")]
        numbers = sorted(body["generation"] for body in found)
        assert numbers == list(range(1, len(numbers) + 1))
        champion = self.seen.records.get((f"MODEL#{MODEL}", "CHAMPION"))
        assert champion is None or champion == max(found, key=lambda body: body["generation"])


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=400 if DEEP else 10,
    stateful_step_count=80 if DEEP else 30,
    derandomize=not DEEP,
    # Making a failing case smaller takes many times as long as finding it.
    phases=list(Phase) if DEEP else [Phase.generate],
    print_blob=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
