"""A cursor that nobody was given is of no list, and no schema can say so: good requests go without one."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    meta = getattr(case, "meta", None)
    if meta is not None and meta.generation.mode.is_positive and case.query:
        case.query.pop("cursor", None)
