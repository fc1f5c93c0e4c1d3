"""``autogroup lint``: what to look at in a model, where a known rule is wrong about it, what a change regrouped."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from autogroup.commands import FINDINGS, OK
from autogroup.commands.source import analyze_source
from autogroup.errors import InputError, LoadError
from autogroup.lint import Finding, against_names, against_timm, against_transformers, lint
from autogroup.load import Loaded
from autogroup.lock import Lock, LockCheck, changes
from autogroup.render.lint import print_findings, print_lock
from autogroup.report import Report


def run(arguments: argparse.Namespace) -> int:
    """Run the checks that the options name: a rule, a lock file, or without either the analysis' own findings."""
    file: str | None = arguments.lock
    if arguments.update_lock and file is None:
        raise InputError("--update-lock needs --lock FILE: which file to update")
    loaded, report = analyze_source(arguments)
    findings = _findings(arguments.against, loaded, report) if arguments.against or file is None else None
    locked = None if file is None else _check_lock(file, Lock.of(report), update=arguments.update_lock)
    if arguments.format == "json":
        listed = None if findings is None else [asdict(finding) for finding in findings]
        print(json.dumps({"source": loaded.label, "findings": listed, "lock": locked and asdict(locked)}, indent=1))
    else:
        print(loaded.label)
        if findings is not None:
            print_findings(findings)
        if locked is not None:
            print_lock(locked, loaded.label)
    return FINDINGS if findings or (locked is not None and locked.status == "differs") else OK


def _findings(rule: str | None, loaded: Loaded, report: Report) -> tuple[Finding, ...]:
    if rule == "timm":
        return against_timm(report, loaded.model)
    if rule == "hf":
        if loaded.model is None:
            raise LoadError(
                f"{loaded.label}: --against hf looks at the classes of modules, which an exported program and a report "
                "do not have; name the code instead, as in file.py:callable"
            )
        return against_transformers(report, loaded.model)
    return against_names(report) if rule == "names" else lint(report)


def _check_lock(file: str, current: Lock, *, update: bool) -> LockCheck:
    """Write, compare or replace the lock file; a file that is no lock file is never replaced."""
    path = Path(file)
    if not path.exists():
        current.write(path)
        return LockCheck(file, "written")
    changed = changes(Lock.read(path), current)
    if update:
        current.write(path, update=True)
        return LockCheck(file, "updated", changed)
    return LockCheck(file, "differs" if changed else "matches", changed)
