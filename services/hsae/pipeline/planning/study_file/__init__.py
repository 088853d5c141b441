"""A study as a YAML file: one model, one data set, some layers, and sweeps over SAE configurations.

`docs/submit.md` describes the file. All mistakes in it are a `UserError` of one line: file, fields, and what to do.
"""

from hsae.pipeline.planning.study_file.spec import StudySpec, read_block, read_spec, spec_of
from hsae.pipeline.planning.study_file.sweeps import MAX_SAES

__all__ = ["MAX_SAES", "StudySpec", "read_block", "read_spec", "spec_of"]
