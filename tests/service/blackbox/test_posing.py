import numpy as np

from schemas.tensor import Tensor
from service.blackbox.moving import Asked
from service.blackbox.posing import evaluations, posed
from service.checking.question import Limits


def test_what_is_estimated_is_what_is_laid_out():
    tensors = {"a": Tensor(np.ones(3), None, integral=False), "b": Tensor(np.ones(7), None, integral=False)}
    asked = Asked({"a": Tensor(np.array(0.3), None, integral=False)}, {})
    for random in (True, False):
        found = posed(tensors, asked, random=random, count=5, seed=0, limits=Limits())
        assert found.layout.points["a"].scale == 0.25
        assert found.layout.evaluations == evaluations(found.layout.points, found.count, random=random)
