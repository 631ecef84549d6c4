"""Traces the engine of home_made_bus.py, of which not a line is changed."""

from fillpath.instrumentation import TracedEventBus, Tracing
from home_made_bus import Bus, Engine

with Tracing(portfolio="home/made"):
    engine = Engine(TracedEventBus(Bus()))
    engine.run()
print(engine.report())
print("See one of its fills: fillpath trace show latest")
