"""Tests of models, and the environments that models are tested on."""
