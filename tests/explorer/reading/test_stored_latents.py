"""Activations read from copies of objects are those of the pipeline's own reader."""

import numpy as np

from hsae.explorer.reading.local_copies import LocalCopies
from hsae.explorer.reading.stored_latents import StoredLatents
from hsae.pipeline.stages.latent_activations import get_latent_activations


def test_they_are_what_the_pipeline_reads(explored, stored_latents, tmp_path, monkeypatch):
    monkeypatch.setattr("hsae.explorer.reading.stored_latents._ENTRIES_AT_ONCE", 7)
    latents = StoredLatents(LocalCopies(explored.service.store, tmp_path, max_bytes=1 << 30))
    whole = get_latent_activations(explored.service.store, stored_latents[0]["key"], stored_latents[0]["sha256"])
    z = whole.z.toarray()
    for row in (0, 1, len(whole.images) - 1):
        firing = latents.of_image(stored_latents[0]["key"], stored_latents[0]["sha256"], int(whole.images[row]))
        assert sorted(firing.where.tolist()) == np.flatnonzero(z[row] > 0).tolist()
        np.testing.assert_array_equal(firing.activations, z[row][firing.where])
        assert (np.diff(firing.activations) <= 0).all()
    busiest = int((z > 0).sum(0).argmax())
    for latent in (busiest, int((z > 0).sum(0).argmin())):
        firing, n_images = latents.of_latent(stored_latents[0]["key"], stored_latents[0]["sha256"], latent)
        assert n_images == len(whole.images)
        assert sorted(firing.where.tolist()) == sorted(whole.images[z[:, latent] > 0].tolist())
        column = dict(zip(whole.images.tolist(), z[:, latent].tolist(), strict=True))
        assert firing.activations.tolist() == [column[image] for image in firing.where.tolist()]
    assert latents.of_image(stored_latents[0]["key"], stored_latents[0]["sha256"], 10**6) is None
