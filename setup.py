"""Tags a wheel for all Pythons from 3.11 on; whatever else there is to say is in pyproject.toml.

The compiled part keeps to Python's stable interface, so one build serves them all. A free-threaded
Python has another interface and refuses the tag; it gets a wheel without the compiled part.
"""

import sysconfig

from setuptools import setup

is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
setup(options={} if is_free_threaded else {"bdist_wheel": {"py_limited_api": "cp311"}})
