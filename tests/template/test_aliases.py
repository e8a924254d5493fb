"""CloudFormation rejects YAML aliases: sam resolves those of the template, and the bootstrap template has none."""

import yaml
from samcli.yamlhelper import CfnDumper

from tests.template import deployed


def aliases(text):
    return [event.anchor for event in yaml.parse(text) if isinstance(event, yaml.AliasEvent)]


def test_the_source_has_aliases_and_what_sam_writes_has_none():
    assert aliases(deployed.TEMPLATE.read_text())
    assert aliases(yaml.dump(deployed.source(), Dumper=CfnDumper)) == []


def test_the_bootstrap_template_has_none():
    assert aliases(deployed.BOOTSTRAP.read_text()) == []
