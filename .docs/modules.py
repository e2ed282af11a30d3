import griffe


class Modules(griffe.Extension):
    """Equinox modules are dataclasses: their fields are the signature."""

    def on_class_instance(self, *, cls: griffe.Class, **kwargs: object) -> None:
        del kwargs
        bases = [str(base).rsplit(".", 1)[-1] for base in cls.bases]
        if any(base == "Module" or base.startswith("Abstract") for base in bases):
            dataclass = griffe.ExprName("dataclasses.dataclass")
            cls.decorators.append(griffe.Decorator(dataclass, lineno=None, endlineno=None))
