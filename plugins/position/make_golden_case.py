# Shared by the make_golden.py of the position encodings: writes one case of golden.csv in the format that the rule
# MatchesGoldenValues reads. q and k are the same for all heads; hidden pairs are those that the encoding masks.
import numpy as np


def rows(seed, n, d):
    return np.round(np.random.default_rng(seed).normal(size=(n, d)) * 64) / 64


def rotate(x, angle, pairing="half"):
    """Rows x [n, d] turned by angle [n, d / 2]."""
    d = x.shape[1]
    first, second = (np.arange(0, d, 2), np.arange(1, d, 2)) if pairing == "interleaved" else (np.arange(d // 2), np.arange(d // 2, d))
    z = (x[:, first] + 1j * x[:, second]) * np.exp(1j * angle)
    y = np.empty_like(x)
    y[:, first], y[:, second] = z.real, z.imag
    return y


def write(out, spec, causal, query_offset, train_length, q, k, scores, coordinates=None):
    """scores [heads, n_q, n_k]; NaN = hidden by the encoding. The causal mask is applied here."""
    heads, n_q, n_k = scores.shape
    out.write(f"case;{spec};{int(causal)};{n_q};{n_k};{query_offset};{heads};{q.shape[1]};{train_length}\n")
    if coordinates is not None:
        out.write("coordinates;" + ";".join(f"{x:.17g}" for x in np.ravel(coordinates)) + "\n")
    out.write("q;" + ";".join(f"{x:.17g}" for x in q.ravel()) + "\n")
    out.write("k;" + ";".join(f"{x:.17g}" for x in k.ravel()) + "\n")
    i = np.arange(n_q)[:, None] + query_offset
    seen = ~np.isnan(scores) & ((np.arange(n_k)[None, :] <= i) if causal else True)
    out.write("scores;" + ";".join(f"{x:.12g}" if s else "hidden" for x, s in zip(scores.ravel(), np.broadcast_to(seen, scores.shape).ravel())) + "\n")
