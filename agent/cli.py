"""The command line `vagus`: one function a command, nothing imported before it is needed.

Exit 0 good, 1 failed, 2 usage or config.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

from agent import __version__
from agent.bench import add_parts, bench_command

DISCLAIMER = "Research software, not a medical device: do not rely on it for anyone's safety."


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `vagus` program."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        return int(args.call(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone away, e.g. `| head`
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:  # noqa: PLR0915 (one line an option)
    parser = argparse.ArgumentParser(
        prog="vagus", description="Edge agent for wearable health streams: sensors in, alerts out.", epilog=DISCLAIMER
    )
    parser.add_argument("--version", action="version", version=f"vagus {__version__}. {DISCLAIMER}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    demo = commands.add_parser("demo", help="see it work: a simulated patient, the agent and a subscriber, one minute")
    demo.add_argument("--record", type=Path, help="play this WFDB record (path without extension) instead")
    demo.add_argument("--from", dest="start_s", type=float, default=None, metavar="S", help="begin S seconds into it")
    demo.add_argument("--seconds", type=float, default=None, help="how long to play (default: about a minute)")
    demo.add_argument("--plain", action="store_true", help="no moving display")
    demo.set_defaults(call=_demo)

    run = commands.add_parser("run", help="run the agent with a config file")
    run.add_argument("config", type=Path)
    run.set_defaults(call=_run)

    check = commands.add_parser("check", help="say every fault of a config file, with line and key")
    check.add_argument("config", type=Path)
    check.add_argument("--json", action="store_true")
    check.set_defaults(call=_check)

    scan = commands.add_parser("scan", help="which wearables are near by, and the lines of config that take them in")
    scan.add_argument("--seconds", type=_positive, default=10.0, metavar="S", help="listen for so long (default 10)")
    scan.add_argument("--adapter", metavar="NAME", help="such as hci1 (default: the first one)")
    scan.add_argument("--json", action="store_true")
    scan.set_defaults(call=_scan)

    replay = commands.add_parser(
        "replay", help="print the alerts of recordings: WFDB records, or glucose readings in a CSV file"
    )
    replay.add_argument(
        "records",
        nargs="*",
        type=Path,
        metavar="RECORD",
        help="path without extension, or FILE.csv with timestamp,glucose_mg_dl",
    )
    replay.add_argument(
        "--alert", metavar="ID", help="in place of a RECORD: make this alert again from what the agent recorded"
    )
    replay.add_argument("--json", action="store_true", help="one canonical JSON object a line, with the evidence")
    replay.add_argument(
        "--chunk", type=_positive, default=1.0, metavar="S", help="seconds of signal a tick (default 1)"
    )
    replay.add_argument("--speed", type=_positive, help="1 is real time (default: as fast as it can)")
    replay.add_argument("--mains", type=int, choices=(0, 50, 60), default=0, help="mains hum to notch, Hz")
    replay.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="keep what `vagus report` shows in this folder; with --alert: the agent's state folder",
    )
    replay.add_argument("--config", type=Path, help="with --alert: whose state folder and limits count")
    replay.set_defaults(call=_replay)

    annotate = commands.add_parser("annotate", help="write what the engine finds as WFDB annotations (.vagus)")
    annotate.add_argument("records", nargs="+", type=Path, metavar="RECORD")
    annotate.add_argument("--out", type=Path, required=True, metavar="DIR")
    annotate.set_defaults(call=_annotate)

    evaluate = commands.add_parser("evaluate", help="score the engine against reference annotations")
    evaluate.add_argument("task", choices=("beats", "rhythm", "vf", "alarms", "burden", "glucose"))
    evaluate.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="with mitdb/, cinc2017/, vfdb/, glucose/ …"
    )
    evaluate.add_argument("--records", nargs="*", help="only these, e.g. mitdb/208, or AZT1D/Subject_1")
    evaluate.add_argument("--json", type=Path, metavar="OUT")
    evaluate.add_argument("--predictions", type=Path, metavar="CSV")
    evaluate.set_defaults(call=_evaluate)

    report = commands.add_parser("report", help="one person's last days as a page for any browser")
    report.add_argument("patient", metavar="PATIENT", help="the pseudonym")
    report.add_argument("--days", type=_days, default=14, metavar="N", help="1 to 90 (default 14)")
    report.add_argument("--until", type=_date, metavar="DATE", help="the last day (default: that of the newest data)")
    place = report.add_mutually_exclusive_group()
    place.add_argument("--config", type=Path, help="whose state folder and time zone count")
    place.add_argument("--state", type=Path, metavar="DIR", help="the state folder")
    report.add_argument("--timezone", metavar="ZONE", help="such as Europe/Berlin (default: the config's, else UTC)")
    report.add_argument("--unit", choices=("mg/dL", "mmol/L"), default="mg/dL", help="of glucose, on the page")
    report.add_argument("--out", type=Path, metavar="FILE.html", help="default: report-PATIENT-DATE.html, here")
    report.add_argument("--json", action="store_true", help="print the numbers; the page only where --out says so")
    report.set_defaults(call=_report)

    alerts = commands.add_parser(
        "alerts",
        help="what was raised, and what became of it: list, show ID, export ID, stats",
        description="list: what was raised. show ID: one alert in words, or on ECG paper. export ID: the recording "
        "around it as WFDB records with the alerts as annotations, and readings as CSV. stats: alarms a day.",
    )
    alerts.add_argument("action", nargs="?", choices=("list", "show", "export", "stats"), default="list")
    alerts.add_argument("alert", nargs="?", metavar="ID", help="of the alert, or how it begins")
    alerts.add_argument("--patient", metavar="PATIENT", help="only this person's")
    alerts.add_argument("--since", metavar="WHEN", help="on or changed since: 2h, 3d, 2026-11-24T08:00 (UTC)")
    alerts.add_argument("--suppressed", action="store_true", help="list what was held back instead, and why")
    alerts.add_argument("--days", type=_days, default=7, metavar="N", help="stats: of the last N (default 7)")
    alerts.add_argument("--png", type=Path, metavar="FILE", help="show: draw it, 25 mm/s and 10 mm/mV")
    alerts.add_argument("--intervals", action="store_true", help="show: measure PR, QRS and QT on it (needs neurokit2)")
    alerts.add_argument("--out", type=Path, metavar="DIR", help="export: into this folder")
    alerts.add_argument("--before", type=_positive, default=300.0, metavar="S", help="export: seconds before it (300)")
    alerts.add_argument("--after", type=_positive, default=60.0, metavar="S", help="export: seconds after it (60)")
    where = alerts.add_mutually_exclusive_group()
    where.add_argument("--config", type=Path, help="whose state folder counts")
    where.add_argument("--state", type=Path, metavar="DIR", help="the state folder")
    alerts.add_argument("--json", action="store_true")
    alerts.set_defaults(call=_alerts)

    export = commands.add_parser("export", help="one person's history in a form that other systems read")
    export.add_argument("form", choices=("fhir",), help="a FHIR R4B bundle; needs the extra [fhir]")
    export.add_argument("patient", metavar="PATIENT", help="the pseudonym")
    export.add_argument("--from", dest="first", type=_date, metavar="DATE", help="the first day (default: all)")
    export.add_argument("--to", dest="last", type=_date, metavar="DATE", help="the last day (default: all)")
    origin = export.add_mutually_exclusive_group()
    origin.add_argument("--config", type=Path, help="whose state folder and time zone count")
    origin.add_argument("--state", type=Path, metavar="DIR", help="the state folder")
    export.add_argument("--out", type=Path, metavar="FILE.json", help="default: fhir-PATIENT.json, here")
    export.set_defaults(call=_export)

    personal = commands.add_parser("personal", help="what was learned of a person's glucose, and back to before")
    personal.add_argument("patient", metavar="PATIENT", help="the pseudonym")
    personal.add_argument("action", nargs="?", choices=("show", "rollback"), default="show")
    personal.add_argument("generation", nargs="?", type=int, metavar="GENERATION", help="to go back to")
    of = personal.add_mutually_exclusive_group()
    of.add_argument("--config", type=Path, help="whose state folder counts")
    of.add_argument("--state", type=Path, metavar="DIR", help="the state folder")
    personal.add_argument("--json", action="store_true")
    personal.set_defaults(call=_personal)

    drill = commands.add_parser("drill", help="sound an alarm that is none, the whole way, and see who hears it")
    drill.add_argument("config", type=Path)
    drill.add_argument("--patient", metavar="P", help="the pseudonym (default: the config's first)")
    drill.add_argument("--rule", default="asystole", help="which alarm (default: asystole)")
    drill.add_argument("--seconds", type=_positive, default=60.0, metavar="S", help="how long (1 to 900, default 60)")
    drill.set_defaults(call=_drill)

    audit = commands.add_parser("audit", help="whether what was said and done is as it was written down")
    whose = audit.add_mutually_exclusive_group()
    whose.add_argument("--config", type=Path, help="whose state folder counts")
    whose.add_argument("--state", type=Path, metavar="DIR", help="the state folder")
    audit.add_argument("--json", action="store_true")
    audit.set_defaults(call=_audit)

    subscribe = commands.add_parser("subscribe", help="show alerts as they come")
    subscribe.add_argument("--host", default="localhost")
    subscribe.add_argument("--port", type=int, help="default 1883, or 8883 with --ca-file")
    subscribe.add_argument("--agent", default="+", help="only this agent's")
    subscribe.add_argument("--username")
    subscribe.add_argument("--password-file", type=Path)
    subscribe.add_argument("--ca-file", type=Path, help="speak TLS and trust this authority")
    subscribe.add_argument("--alarms-only", action="store_true", help="no ends, late reports or good status")
    subscribe.add_argument("--count", type=int, help="leave after so many")
    subscribe.add_argument("--timeout", type=_positive, metavar="S", help="leave after so many seconds")
    subscribe.add_argument("--json", action="store_true")
    subscribe.set_defaults(call=_subscribe)

    fleet = commands.add_parser("fleet", help="how all agents of a site are, worst first; a new version, ring by ring")
    fleet.add_argument("action", nargs="?", choices=("list", "roll-out", "sign"), default="list")
    fleet.add_argument("order", nargs="?", type=Path, metavar="ORDER", help="the file with a signed order")
    fleet.add_argument("--host", default="localhost")
    fleet.add_argument("--port", type=int, help="default 1883, or 8883 with TLS")
    fleet.add_argument("--username")
    fleet.add_argument("--password-file", type=Path)
    fleet.add_argument("--ca-file", type=Path, help="speak TLS and trust this authority")
    fleet.add_argument("--cert-file", type=Path, help="the certificate that says who you are")
    fleet.add_argument("--key-file", type=Path, help="and its key")
    fleet.add_argument("--silent", action="store_true", help="list: only silent and stale ones")
    fleet.add_argument("--version", dest="of_version", metavar="V", help="list: only with it; sign: that of the bundle")
    fleet.add_argument("--json", action="store_true")
    fleet.add_argument("--rings", metavar="A,B", help="roll-out: in this order; sign: only for these (default: any)")
    fleet.add_argument("--wait", action="store_true", help="roll-out: see to it, ring by ring, and take it back if bad")
    fleet.add_argument("--patience", type=_positive, default=1800.0, metavar="S", help="for a ring to have it (1800)")
    fleet.add_argument("--soak", type=_positive, default=600.0, metavar="S", help="for a ring to stay well (600)")
    fleet.add_argument("--key", type=Path, metavar="PEM", help="sign: the private key, Ed25519")
    fleet.add_argument("--bundle", type=Path, metavar="FILE", help="sign: the bundle")
    fleet.add_argument("--url", help="sign: where agents find the bundle (default: the path given)")
    fleet.add_argument("--sequence", type=int, metavar="N", help="sign: above that of any order before, by 2 or more")
    fleet.add_argument("--days", type=_positive, default=7.0, metavar="N", help="sign: when it expires (7)")
    fleet.set_defaults(call=_fleet)

    packs = commands.add_parser("packs", help="list the model packs, verify them on this machine, or install one")
    packs.add_argument("action", choices=("list", "verify", "install"))
    packs.add_argument("pack", nargs="?", type=Path, metavar="PACK", help="to install: a pack's folder or zip file")
    packs.add_argument("--runtime", help="verify: on this runtime instead of the CPU, tried in another process first")
    packs.add_argument("--config", type=Path, help="whose state folder holds installed packs (default: the user's)")
    packs.add_argument("--json", action="store_true")
    packs.set_defaults(call=_packs)

    doctor = commands.add_parser("doctor", help="what works on this machine, what does not, and how to mend it")
    doctor.add_argument("--config", type=Path)
    doctor.add_argument("--json", action="store_true")
    doctor.add_argument("--bundle", type=Path, metavar="OUT.tar.gz", help="for whoever helps: all this, about nobody")
    doctor.add_argument("--log", type=Path, metavar="FILE", help="bundle: the log, where the journal does not have it")
    doctor.set_defaults(call=_doctor)

    backup = commands.add_parser("backup", help="a device's identity and all it keeps, as one file for a replacement")
    backup.add_argument("config")
    backup.add_argument("archive")
    backup.set_defaults(call=_backup)

    restore = commands.add_parser("restore", help="be the device that such a file was made of")
    restore.add_argument("archive")
    restore.add_argument("--config", required=True, metavar="DIR", help="where the config goes, such as /etc/vagus")
    restore.add_argument("--state", metavar="DIR", help="where state goes; without it, where the config says")
    restore.set_defaults(call=_restore)

    bench = commands.add_parser("bench", help="streams per core, latency, memory, start-up, measured here")
    bench.add_argument("--json", type=Path, metavar="OUT")
    bench.add_argument("--keep", action="store_true", help="set these figures in the place of the last ones kept")
    only = bench.add_mutually_exclusive_group()
    only.add_argument("--quick", action="store_true", help="fewer patients, shorter runs")
    add_parts(only)
    bench.set_defaults(call=bench_command)
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 90:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days from 1 to 90")
    return days


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a date such as 2026-11-24") from None


def _demo(args: argparse.Namespace) -> int:
    from agent.demo import demo_command

    return demo_command(args)


def _run(args: argparse.Namespace) -> int:
    from agent.workers.run import run_command

    return run_command(args)


def _check(args: argparse.Namespace) -> int:
    from agent.config import check_command

    return check_command(args)


def _scan(args: argparse.Namespace) -> int:
    from agent.scan import scan_command

    return scan_command(args)


def _replay(args: argparse.Namespace) -> int:
    if bool(args.records) == bool(args.alert):
        print("usage: vagus replay RECORD…, or vagus replay --alert ID", file=sys.stderr)
        return 2
    if args.alert:
        from agent.alerts.again import again_command

        return again_command(args)
    from agent.replay import replay_command

    return replay_command(args)


def _annotate(args: argparse.Namespace) -> int:
    from agent.annotate import annotate_command

    return annotate_command(args)


def _evaluate(args: argparse.Namespace) -> int:
    from agent.evaluate import evaluate_command

    return evaluate_command(args)


def _report(args: argparse.Namespace) -> int:
    from agent.report import report_command

    return report_command(args)


def _alerts(args: argparse.Namespace) -> int:
    from agent.alerts.command import alerts_command

    return alerts_command(args)


def _export(args: argparse.Namespace) -> int:
    from agent.fhir import export_command

    return export_command(args)


def _personal(args: argparse.Namespace) -> int:
    from agent.personal_command import personal_command

    return personal_command(args)


def _drill(args: argparse.Namespace) -> int:
    from agent.drill_command import drill_command

    return drill_command(args)


def _audit(args: argparse.Namespace) -> int:
    from agent.audit_command import audit_command

    return audit_command(args)


def _subscribe(args: argparse.Namespace) -> int:
    from agent.subscribe import subscribe_command

    return subscribe_command(args)


def _fleet(args: argparse.Namespace) -> int:
    from agent.fleet.command import fleet_command

    return fleet_command(args)


def _packs(args: argparse.Namespace) -> int:
    from agent.packs import packs_command

    return packs_command(args)


def _doctor(args: argparse.Namespace) -> int:
    from agent.doctor import doctor_command

    return doctor_command(args)


def _backup(args: argparse.Namespace) -> int:
    from agent.backup import backup_command

    return backup_command(args)


def _restore(args: argparse.Namespace) -> int:
    from agent.backup import restore_command

    return restore_command(args)


if __name__ == "__main__":
    sys.exit(main())
