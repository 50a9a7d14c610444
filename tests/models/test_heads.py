import torch

from mcl_ray.models.heads import EmbeddingHead


def test_embeddings_are_the_unit_vectors_of_two_layers():
    torch.manual_seed(0)
    head = EmbeddingHead(6, 4)
    features = torch.randn(5, 6)
    embeddings = head(features)
    for feature, embedding in zip(features, embeddings, strict=True):
        hidden = [max(0.0, (row @ feature + bias).item()) for row, bias in zip(*head.hidden.parameters(), strict=True)]
        raw = head.output.weight @ torch.tensor(hidden) + head.output.bias
        torch.testing.assert_close(embedding, raw / raw.square().sum().sqrt())


def test_embeddings_are_float32_of_unit_length_under_autocast():
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = EmbeddingHead(6, 128)(torch.randn(5, 6))
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5), rtol=1e-6, atol=0)
