from typing import Any

from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def build() -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    prepare = make_column_transformer(
        (numbers, ["level", "wind"]), (OneHotEncoder(handle_unknown="ignore"), ["coast"])
    )
    return make_pipeline(prepare, LogisticRegression())
