"""What a rule requires of its model."""

from __future__ import annotations

from collections.abc import Iterator

from contour_ai.bundle import ModelBundle, default_bundle, load_bundle
from contour_ai.bundle.commissioned_record import refuse_uncommissioned
from contour_ai.errors import ContourAIError
from contour_ai.node.config import NodeConfig, Rule, rule_name


def model_of(rule: Rule) -> ModelBundle:
    """The model of a rule.

    Raises:
        ModelError: it cannot be used.
    """
    return load_bundle(rule.model) if rule.model else default_bundle()


def unmet(rule: Rule) -> str:
    """Why the jobs of a rule would be set aside, in a sentence; empty where its model is as the rule requires."""
    if rule.require is None:
        return ""
    try:
        refuse_uncommissioned(model_of(rule))
    except ContourAIError as error:
        return f"{error.what} {error.found or ''}".strip()
    return ""


def unmet_rules(config: NodeConfig) -> Iterator[str]:
    """A sentence for every rule whose jobs would be set aside."""
    for number, rule in enumerate(config.rules, start=1):
        if reason := unmet(rule):
            yield f"{rule_name(number, rule)} would set every series aside: {reason}"
