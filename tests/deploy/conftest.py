"""Each overlay, and each folder that Kustomize renders."""

import pytest

from tests.support.manifests import FOLDERS, OVERLAYS


@pytest.fixture(params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture(params=FOLDERS)
def folder(request):
    return request.param
