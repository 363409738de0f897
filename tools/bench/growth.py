"""How cost grows: with the number of traces, the vocabulary, the length of rows, the number of devices.

python tools/bench/growth.py                # half an hour on one core, 1.5 GB of disk
python tools/bench/growth.py --quick --out /tmp/x
"""

import json

import compare
import exchanges
import growth_looking
import growth_models
import growth_traces
import harness
import tyro


def main(plan: harness.Plan) -> None:
    for subject in (growth_models.SUBJECT, growth_traces.SUBJECT, growth_looking.SUBJECT, exchanges.SUBJECT):
        print(f"{subject.title} …", flush=True)
        print("\n".join(["", *compare.table(json.loads(harness.measure(subject, plan).read_text())), ""]), flush=True)


if __name__ == "__main__":
    main(tyro.cli(harness.Plan, description=__doc__))
