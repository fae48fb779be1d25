import broken


class Nameless(broken.Affine):
    """A right model in a file that does not say what it holds, with a preset that does not build."""


PRESETS = {"wide": {"widht": 3}}
