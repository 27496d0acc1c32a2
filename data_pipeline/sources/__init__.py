"""Everything that can be read, as one canonical dataset: ``SourceConfig`` and ``open_source``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"canonical": ["open_source"], "config": ["SourceConfig"]},
)
