#!/usr/bin/env python3
"""Completion scripts and the manual page name every command and option that --help names."""
import pathlib
import re
import subprocess
import sys

borel = pathlib.Path(sys.argv[1])
failures = 0


def output(*arguments, text=None):
    return subprocess.run(arguments, capture_output=True, text=True, input=text, timeout=60)


def expect(name, condition, detail=""):
    global failures
    print(("ok      " if condition else "FAILED  ") + name)
    if not condition:
        failures += 1
        print(detail)


help_text = output(borel, "--help").stdout
commands = re.findall(r"^  ([a-z]+) {2,}\S", help_text.split("Subcommands:")[1], re.M)
expect("there are commands", {"list", "info", "new", "check"} <= set(commands), commands)
options = {c: set(re.findall(r"(--[a-z-]+)", output(borel, c, "--help").stdout.split("Options:")[1])) for c in commands}

page = output(borel, "man").stdout
plain = page.replace("\\-", "-")
for command in commands:
    expect(f"manual page has {command} and its options",
           f".SS borel {command}" in plain and all(o in plain for o in options[command] - {"--help"}), plain)
formatted = output("groff", "-man", "-Tutf8", "-ww", text=page) if output("sh", "-c", "command -v groff").returncode == 0 else None
if formatted:
    expect("groff reads the page without a warning", formatted.returncode == 0 and formatted.stderr == "", formatted.stderr)

bash = output(borel, "completion", "bash").stdout


def complete(*words):
    line = "COMP_WORDS=(" + " ".join(f"'{w}'" for w in words) + f"); COMP_CWORD={len(words) - 1}; _borel; echo \"${{COMPREPLY[*]}}\""
    return output("bash", "-c", f"PATH={borel.parent}:$PATH\n{bash}\n{line}").stdout.split()


expect("bash completes commands", set(complete("borel", "")) == set(commands), complete("borel", ""))
expect("bash completes a beginning", complete("borel", "inf") == ["info"], complete("borel", "inf"))
expect("bash completes options", set(complete("borel", "check", "--")) >= {"--seed", "--rule", "--json"},
       complete("borel", "check", "--"))
expect("bash completes method ids", "density/kde" in complete("borel", "info", "density/"), complete("borel", "info", "density/"))
expect("bash skips global options", complete("borel", "--no-builtin-plugins", "lis") == ["list"], "")
for shell in ("bash", "zsh"):
    expect(f"{shell} script parses", output("bash", "-n", text=output(borel, "completion", shell).stdout).returncode == 0)
fish = output(borel, "completion", "fish").stdout
expect("fish knows every command", all(f"-a {c} -d" in fish for c in commands), fish)
expect("an unknown shell is a usage error", output(borel, "completion", "csh").returncode == 2)

print(f"{failures} failures")
sys.exit(1 if failures else 0)
