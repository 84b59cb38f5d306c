"""A linear layer with its cross-entropy, fused, in bfloat16: the logits of a chunk of rows exist at a time.

It runs on the GPU if there is one: put your kernel's launches in place of the lines of PyTorch.
"""

import sys

import torch

import gradcheckd

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHUNK = 8


def differentiate(x, w, target):
    """Return the gradients of mean cross-entropy of x w^T; logits and their gradients are rounded to bfloat16."""
    by_x, by_w = torch.empty_like(x), torch.zeros(w.shape, device=w.device)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        logits = (x[rows].float() @ w.float().T).bfloat16()
        by_logits = logits.float().softmax(-1)
        by_logits[torch.arange(len(by_logits)), target[rows]] -= 1
        by_logits = (by_logits / len(x)).bfloat16()
        by_x[rows] = (by_logits.float() @ w.float()).bfloat16()
        by_w += by_logits.float().T @ x[rows].float()
    return {"x": by_x, "w": by_w.bfloat16()}


def judge(kernel=differentiate):
    """Check the gradients of a kernel; run it twice more, as atomic additions may differ from run to run."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 16, generator=generator).bfloat16().to(DEVICE)
    w = torch.randn(40, 16, generator=generator).bfloat16().to(DEVICE)
    target = torch.randint(40, (32,), generator=generator).to(DEVICE)
    return gradcheckd.check(
        model="logits = linear(x, w)\nloss = cross_entropy(logits, target)",
        tensors={"target": target},
        weights={"x": x, "w": w},
        candidate=lambda: kernel(x, w, target),
        repeats=2,
        candidate_dtype={"casts": {"logits": "BF16", "d:logits": "BF16"}, "output": "BF16"},
    )


if __name__ == "__main__":
    report = judge()
    print(report)
    sys.exit(not report.passed)
