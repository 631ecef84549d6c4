"""A live feed with paper orders: bars come when they come, the engine is stopped from inside."""

from __future__ import annotations

import datetime as dt
import queue
import threading
from typing import Any

import backtrader as bt
from host_backtrader import TruthReport, prices


class LiveFeed(bt.feed.DataBase):
    """Bars from a thread, through a queue, as the feeds of real brokers have them."""

    params = (("qcheck", 0.01),)

    def start(self) -> None:
        """Start the thread."""
        super().start()
        self._bars: queue.Queue[list[float] | None] = queue.Queue()
        threading.Thread(target=self._produce, daemon=True).start()
        self.put_notification(self.LIVE)

    def islive(self) -> bool:
        """Tell the engine to wait for bars."""
        return True

    def haslivedata(self) -> bool:
        """Tell whether a bar is waiting."""
        return not self._bars.empty()

    def _produce(self) -> None:
        with open(prices("GOOG"), encoding="utf-8") as lines:  # noqa: PTH123  # any path will do
            for line in list(lines)[1:140]:
                day, *numbers = line.strip().split(",")
                time = bt.date2num(dt.datetime.fromisoformat(day))
                self._bars.put([time, *map(float, numbers)])
        self._bars.put(None)

    def _load(self) -> Any:
        try:
            bar = self._bars.get(timeout=self._qcheck or 0.001)
        except queue.Empty:
            return None
        if bar is None:
            return False
        lines = self.lines
        lines.datetime[0], lines.open[0], lines.high[0], lines.low[0] = bar[:4]
        lines.close[0], lines.volume[0], lines.openinterest[0] = bar[4], bar[5], 0.0
        return True


class Paper(bt.Strategy):
    """Trades when the feed is live."""

    live = False

    def notify_data(self, data: Any, status: int, *args: Any, **kwargs: Any) -> None:
        """Begin when the feed says so."""
        del args, kwargs
        self.live = status == data.LIVE

    def next(self) -> None:
        """Turn every fifth bar, and stop the engine after a while."""
        if self.live and len(self) % 5 == 0:
            self.order_target_size(target=4 if self.position.size <= 0 else -4)
        if len(self) == 120:
            self.env.runstop()


def main() -> None:
    """Run on the live feed."""
    report = TruthReport()
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(LiveFeed(), name="GOOG")
    cerebro.addstrategy(Paper)
    report.run(cerebro)
    report.write()


if __name__ == "__main__":
    main()
