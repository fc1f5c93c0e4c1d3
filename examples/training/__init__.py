"""What ``examples/train.py`` is made of: one idea per file.

``settings`` (what a run is), ``presets`` (the published ones), ``models``, ``data``, ``optimizer`` and ``schedule``
(its parts), ``distributed``, ``effective`` (the effective learning rate), ``run`` and ``loop`` (training),
``checkpoint``, ``history`` and ``curves`` (what it leaves behind), ``runs``, ``compare`` and ``show``.
"""
