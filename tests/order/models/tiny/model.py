from sklearn.linear_model import LogisticRegression


def build():
    return LogisticRegression()
