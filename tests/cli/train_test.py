"""Training from outside: kill -9 and another number of threads change no bit; time limit, other configurations, generate.

usage: train_test.py <borel>
"""
import lzma
import pathlib
import signal
import sys
import tempfile
import time

from borel_runs import Program

CONFIG = """
dataset = "{text}"
layers = 2
width = 32
heads = 2
feed_forward_width = 64
length = 64
steps = {steps}
batch = 8
chunk = 2
warmup = 10
learning_rate = 0.005
attention = "softmax"
position = "rope"
"""


def weights(program, model, out):
    """All arrays of a model as bytes: weights, moments, losses."""
    program.run("data", "export", model, "--out", out)
    files = {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*.npy"))}
    assert any("qkv" in name for name in files) and any("second_moment" in name for name in files), list(files)
    return files


def numbers(file):
    """Bytes of a vector in an NPY file."""
    data = file.read_bytes()
    return data[10 + int.from_bytes(data[8:10], "little"):]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        program = Program(sys.argv[1], folder / "data")
        (folder / "data").mkdir()
        text = folder / "text.txt"
        text.write_text("".join(f"{i} bottles stand on the wall, and {i * 7 % 11} fall. " for i in range(900)))
        program.run("data", "import", folder / "text.h5", text, "--kind", "tokens")
        config = folder / "small.toml"
        config.write_text(CONFIG.format(text=folder / "text.h5", steps=400))

        program.run("train", config, "--out", folder / "whole.h5", "--threads", "2", "--quiet")

        torn = folder / "torn.h5"
        kills = 0
        for _ in range(8):
            process = program.start("train", config, "--out", torn, "--threads", "1", "--quiet",
                                    "--checkpoint-every", "0.05")
            before = torn.stat().st_mtime_ns if torn.exists() else 0
            while process.poll() is None and (not torn.exists() or torn.stat().st_mtime_ns == before):
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if process.returncode == -signal.SIGKILL:
                kills += 1
                if kills == 3:
                    break
            else:  # it was over before the signal came
                assert process.returncode == 0, process.returncode
                kills = 0
                torn.unlink()
        assert kills == 3, "the training ended before it could be killed three times"
        program.run("train", config, "--out", torn, "--threads", "1", "--quiet")
        whole, resumed = (weights(program, folder / f"{n}.h5", folder / n) for n in ("whole", "torn"))
        assert whole.keys() == resumed.keys()
        for array in whole:
            assert whole[array] == resumed[array], f"{array} differs after {kills} kills"

        # Once more at the end: nothing to train, the comparison with compressors, nothing about this machine.
        done = program.run("train", config, "--out", torn, "--portable").stdout
        row = next(line for line in done.split("\n") if "xz -9e" in line).split()
        program.run("data", "export", folder / "text.h5", "--out", folder / "tokens")
        train, test = (numbers(folder / "tokens" / f"{split}.npy") for split in ("train", "test"))
        alone, before, both = (len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) for data in (test, train, train + test))
        expected = [f"{8 * alone / len(test):.4f}", f"{8 * (both - before) / len(test):.4f}"]
        assert row[-2:] == expected, (row, expected)
        about = program.run("data", "info", torn).stdout
        assert "held_out_bits" in about and "machine_" not in about and "moment" not in about, about

        limited = program.run("train", config, "--out", folder / "limited.h5", "--time-limit", "0.001")
        assert "time limit reached" in limited.stdout, limited.stdout

        config.write_text(CONFIG.format(text=folder / "text.h5", steps=401))
        refused = program.run("train", config, "--out", torn, expect=2)
        assert "another configuration" in refused.stderr, refused.stderr
        config.write_text(CONFIG.format(text=folder / "text.h5", steps=10) + "stepz = 3\n")
        refused = program.run("train", config, expect=2)
        assert "stepz" in refused.stderr and "steps" in refused.stderr, refused.stderr

        said = program.run("generate", folder / "whole.h5", "--prompt", "7 bottles stand on ", "-n", "9", "--temperature",
                           "0").stdout
        assert said == "7 bottles stand on the wall,\n", said
        print(f"same bits after {kills} kills; {len(whole)} arrays")


if __name__ == "__main__":
    main()
