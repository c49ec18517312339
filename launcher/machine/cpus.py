"""Look up a processor by its name: memory channels, their speed, and its cores. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_SOCKETS = 8  # Intel's largest glueless systems (Xeon 6 product brief)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySystem:
    """The memory beside one socket, all channels filled, at the fastest speed that its maker supports."""

    channels: int
    mega_transfers: int
    words: str

    @property
    def bandwidth(self) -> int:
        """Bytes/s of a socket: 64 bits a channel and transfer."""
        return self.channels * self.mega_transfers * 8 * 10**6


# (pattern of the CPU's name, channels per socket, MT/s, words), from AMD's product pages, Intel ARK, and the
# product briefs of Ampere, NVIDIA and Qualcomm. The first that matches counts; a DDR4/DDR5 part is DDR5.
_MEMORY: tuple[tuple[str, int, int, str], ...] = (
    (r"EPYC 9\d\d5", 12, 6400, "12 channels of DDR5-6400"),
    (r"EPYC 9\d\d4", 12, 4800, "12 channels of DDR5-4800"),
    (r"EPYC 8\d\d4", 6, 4800, "6 channels of DDR5-4800"),
    (r"EPYC 4\d\d5", 2, 5600, "2 channels of DDR5-5600"),
    (r"EPYC 4\d\d4", 2, 5200, "2 channels of DDR5-5200"),
    (r"EPYC 7\w\w1", 8, 2666, "8 channels of DDR4-2666"),
    (r"EPYC 7", 8, 3200, "8 channels of DDR4-3200"),
    (r"THREADRIPPER PRO 9", 8, 6400, "8 channels of DDR5-6400"),
    (r"THREADRIPPER PRO 7", 8, 5200, "8 channels of DDR5-5200"),
    (r"THREADRIPPER PRO", 8, 3200, "8 channels of DDR4-3200"),
    (r"THREADRIPPER 9", 4, 6400, "4 channels of DDR5-6400"),
    (r"THREADRIPPER 7", 4, 5200, "4 channels of DDR5-5200"),
    (r"THREADRIPPER 3", 4, 3200, "4 channels of DDR4-3200"),
    (r"THREADRIPPER", 4, 2933, "4 channels of DDR4-2933"),
    (r"XEON.* 69\d\dP", 12, 6400, "12 channels of DDR5-6400"),
    (r"XEON.* 69\d\d", 12, 6400, "12 channels of DDR5-6400"),
    (r"XEON.* 67\d\dE?", 8, 6400, "8 channels of DDR5-6400"),
    (r"XEON.* 65\d\dP?\b", 8, 6400, "8 channels of DDR5-6400"),
    (r"XEON.* MAX 9", 8, 4800, "8 channels of DDR5-4800"),
    (r"XEON.* W[79]-35\d\d", 8, 4800, "8 channels of DDR5-4800"),
    (r"XEON.* W[79]-34\d\d", 8, 4800, "8 channels of DDR5-4800"),
    (r"XEON.* W[3579]-2[45]\d\d", 4, 4800, "4 channels of DDR5-4800"),
    (r"XEON.* W-33\d\d", 8, 3200, "8 channels of DDR4-3200"),
    (r"XEON.* W-32\d\d", 6, 2933, "6 channels of DDR4-2933"),
    (r"XEON.* W-2[12]\d\d", 4, 2933, "4 channels of DDR4-2933"),
    (r"XEON.* [4568]5\d\d", 8, 5600, "8 channels of DDR5-5600"),
    (r"XEON.* [34568]4\d\d", 8, 4800, "8 channels of DDR5-4800"),
    (r"XEON.* [4568]3\d\d", 8, 3200, "8 channels of DDR4-3200"),
    (r"XEON.* [34568]2\d\d", 6, 2933, "6 channels of DDR4-2933"),
    (r"XEON.* [34568]1\d\d", 6, 2666, "6 channels of DDR4-2666"),
    (r"QYFS", 8, 4800, "8 channels of DDR5-4800"),  # the engineering sample of the Platinum 8480
    (r"XEON.* E7-", 4, 1866, "4 channels of DDR4-1866"),
    (r"XEON.*E5.*V4", 4, 2400, "4 channels of DDR4-2400"),
    (r"XEON.*E5.*V3", 4, 2133, "4 channels of DDR4-2133"),
    (r"XEON.*E5", 4, 1866, "4 channels of DDR3-1866"),
    (r"XEON.*E-2[34]\d\d", 2, 3200, "2 channels of DDR4-3200"),
    (r"RYZEN AI MAX", 4, 8000, "256 bits of LPDDR5X-8000"),
    (r"RYZEN AI [579] ", 2, 7500, "128 bits of LPDDR5X-7500"),
    (r"RYZEN [3579] 9\d\d0X", 2, 5600, "2 channels of DDR5-5600"),
    (r"RYZEN [3579] 9", 2, 5600, "2 channels of DDR5-5600"),
    (r"RYZEN [3579] [78]\d\d0[A-Z]*", 2, 5200, "2 channels of DDR5-5200"),
    (r"RYZEN [3579] 6\d\d[05][HU]", 2, 4800, "2 channels of DDR5-4800"),
    (r"RYZEN [3579] [345]", 2, 3200, "2 channels of DDR4-3200"),
    (r"RYZEN", 2, 2933, "2 channels of DDR4-2933"),
    (r"ULTRA [3579] 2\d\dV", 2, 8533, "128 bits of LPDDR5X-8533"),
    (r"ULTRA [3579] 2\d\d", 2, 6400, "2 channels of DDR5-6400"),
    (r"ULTRA [3579] 1\d\d", 2, 5600, "2 channels of DDR5-5600"),
    (r"I[3579]-1[34]\d\d\d", 2, 5600, "2 channels of DDR5-5600"),
    (r"I[3579]-12\d\d\d", 2, 4800, "2 channels of DDR5-4800"),
    (r"I[79]-(10[89]\d\dX|109\d\dX?E?|99\d\dX)", 4, 2933, "4 channels of DDR4-2933"),
    (r"I[3579]-1[01]\d\d\d", 2, 3200, "2 channels of DDR4-3200"),
    (r"I[3579]-[6789]\d\d\d", 2, 2666, "2 channels of DDR4-2666"),
    (r"1[34]TH GEN", 2, 5600, "2 channels of DDR5-5600"),
    (r"12TH GEN", 2, 4800, "2 channels of DDR5-4800"),
    (r"1[01]TH GEN", 2, 3200, "2 channels of DDR4-3200"),
    (r"CORE", 2, 2666, "2 channels of DDR4-2666"),
    (r"N[19]\d\d|N[39]\d5", 1, 4800, "1 channel of DDR5-4800"),
    (r"AMPEREONE.*M", 12, 5600, "12 channels of DDR5-5600"),
    (r"AMPEREONE", 8, 5200, "8 channels of DDR5-5200"),
    (r"AMPERE.*ALTRA|ALTRA|NEOVERSE-N1", 8, 3200, "8 channels of DDR4-3200"),
    (r"GRAVITON ?4", 12, 5600, "12 channels of DDR5-5600"),
    (r"GRAVITON ?3", 8, 4800, "8 channels of DDR5-4800"),
    (r"GRACE|NEOVERSE-V2", 8, 8533, "512 bits of LPDDR5X-8533"),
    (r"KUNPENG.?920", 8, 2933, "8 channels of DDR4-2933"),
    (r"SNAPDRAGON.* X|X1E", 2, 8448, "128 bits of LPDDR5X-8448"),
    (r"CORTEX-A76", 1, 2133, "32 bits of LPDDR4X-4267"),
)

# Cores of a socket, by the maker's product pages; only where the planner is told a name (`--cpu`).
_CORES: tuple[tuple[str, int], ...] = (
    (r"EPYC 9965", 192), (r"EPYC 9845", 160), (r"EPYC 97[57]4", 128), (r"EPYC 9(755|745)", 128),
    (r"EPYC 9(654|645|655)", 96), (r"EPYC 9(634)", 84), (r"EPYC 9(575|565|555|554|534|565)", 64),
    (r"EPYC 9(475|474|454|455)", 48), (r"EPYC 9(375|365|355|354|374|334)", 32),
    (r"EPYC 9(275|255|254|274|224)", 24), (r"EPYC 9(175|135|174|124|115)", 16),
    (r"EPYC 8534", 64), (r"EPYC 8434", 48), (r"EPYC 8324", 32), (r"EPYC 8224", 24),
    (r"EPYC 77[46]", 64), (r"EPYC 7(713|763|773|702|742|H12|662)", 64),
    (r"EPYC 7(643|663|552|642|K62|V12)", 48),
    (r"EPYC 7(543|513|532|502|542|601|551|501|573|453)", 32), (r"EPYC 7(443|413|402|352|401|451)", 24),
    (r"EPYC 7(343|313|302|282|F52|301|351|373)", 16), (r"EPYC 7(F72)", 24),
    (r"EPYC 7(262|F32|232|252|251)", 8),
    (r"THREADRIPPER.* [37]995WX|THREADRIPPER.* 3990X", 64),
    (r"THREADRIPPER.* 9995WX|THREADRIPPER.* 7995WX", 96),
    (r"THREADRIPPER.* (9985WX|7985WX|5995WX|9980X|7980X)", 64), (r"THREADRIPPER.* [79]975WX", 32),
    (r"THREADRIPPER.* (3975WX|5975WX|3970X|7970X|9970X|2990WX)", 32),
    (r"THREADRIPPER.* ([579]965WX|3960X|7960X|9960X|2970WX)", 24),
    (r"THREADRIPPER.* ([3579]955WX|1950X|2950X)", 16),
    (r"THREADRIPPER.* ([3579]945WX|1920X|2920X)", 12),
    (r"XEON.* 6980P", 128), (r"XEON.* 6979P", 120), (r"XEON.* 6972P", 96), (r"XEON.* 6960P", 72),
    (r"XEON.* 6787P", 86), (r"XEON.* 6767P", 64), (r"XEON.* 6748P", 48), (r"XEON.* 6737P", 32),
    (r"XEON.* 8592", 64), (r"XEON.* 8580", 60), (r"XEON.* 8568Y", 48), (r"XEON.* 8480", 56),
    (r"XEON.* 8488C", 48), (r"QYFS", 56),
    (r"XEON.* 8490H", 60), (r"XEON.* (8470|8481C)", 52), (r"XEON.* 8468", 48), (r"XEON.* 8380", 40),
    (r"XEON.* 6454S", 32), (r"XEON.* 6448Y", 32), (r"XEON.* 6430", 32), (r"XEON.* 6530", 32),
    (r"XEON.* 6548", 32),
    (r"XEON.* 6348", 28), (r"XEON.* 6330", 28), (r"XEON.* 62[45]8", 20), (r"XEON.* 6240", 18),
    (r"XEON.* 61[34]8", 20),
    (r"XEON.*W9-3[45]95X", 56), (r"XEON.*W7-3[45]65X", 28), (r"XEON.*W5-3[45]35X", 16),
    (r"E5-2699 ?V4", 22), (r"E5-269[68] ?V4", 20), (r"E5-2697 ?V4", 18), (r"E5-2690 ?V4|E5-2680 ?V4", 14),
    (r"E5-26[89]0 ?V3", 12),
    (r"RYZEN AI MAX\+? ?(PRO )?395", 16), (r"RYZEN AI MAX\+? ?(PRO )?390", 12),
    (r"RYZEN AI MAX\+? ?(PRO )?385", 8),
    (r"RYZEN 9 [3579]9[05]0X|RYZEN 9 [79]950|RYZEN 9 9950|RYZEN 9 9955HX", 16), (r"RYZEN 9 [3579]900", 12),
    (r"RYZEN 7", 8), (r"RYZEN 5", 6), (r"RYZEN 3", 4), (r"I9-1[34]9\d\d", 24), (r"I9-129\d\d", 16),
    (r"I7-14[78]\d\d", 20), (r"I7-13[78]\d\d", 16), (r"I7-127\d\d", 12), (r"I5-1[34][456]\d\d", 14),
    (r"I5-124\d\d", 6), (r"I9-1[01]9\d\dK", 10), (r"I9-10900X", 10),
    (r"I7-8\d\d\d", 6), (r"I[79]-[89]\d\d\d", 8),
    (r"ULTRA 9 285", 24), (r"ULTRA 7 265", 20), (r"ULTRA 5 245", 14), (r"ULTRA 7 155H", 16),
    (r"ULTRA [579] 2\d\dV", 8),
    (r"AMPEREONE A192", 192), (r"AMPEREONE A160", 160), (r"ALTRA MAX", 128), (r"ALTRA", 80), (r"GRACE", 72),
)  # fmt: skip

_SOCKETS = re.compile(r"\A\s*([1-9])\s*[xX]\s+", re.ASCII)


def memory_system(name: str) -> MemorySystem | None:
    """Return the memory beside a CPU of this name; None if it is not known."""
    words = _spelled_out(name)
    for pattern, channels, speed, text in _MEMORY:
        if re.search(pattern, words):
            return MemorySystem(channels=channels, mega_transfers=speed, words=text)
    return None


def socket_cores(name: str) -> int | None:
    """Return the physical cores of one socket of a CPU with this name; None if it is not known."""
    words = _spelled_out(name)
    return next((cores for pattern, cores in _CORES if re.search(pattern, words)), None)


def _spelled_out(name: str) -> str:
    """Write out what people shorten: `TR PRO 7965WX`."""
    return re.sub(r"\bTR\b", "THREADRIPPER", name.upper())


def named_sockets(name: str | None) -> int:
    """Return the sockets in a name like `2 x EPYC 9355`; 1 without them."""
    named = _SOCKETS.match(name or "")
    return int(named[1]) if named else 1


def without_sockets(name: str) -> str:
    """Return the name without how many there are: `2 x EPYC 9355` -> `EPYC 9355`."""
    return _SOCKETS.sub("", name, count=1)
