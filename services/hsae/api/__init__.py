"""The public Python API: what `import hsae` offers. Everything else may change without notice."""

import os

# Read when torch is loaded, which happens after this. By default OpenMP's threads spin while they wait for one another:
# beside other work on the machine a training of seconds then takes ten times as much of the processor. The workers set
# the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
