"""The examples of clusters, read by Ray's own schemas and by our options."""

from pathlib import Path

import pytest
import yaml

from optimum_pixart_neuron.hardware import get_instance
from optimum_pixart_neuron.serving.server.options import ServeOptions
from tests.extras import needs

pytestmark = needs("ray")
EXAMPLES = Path(__file__).parents[2] / "examples" / "serve"
CORES = "aws.amazon.com/neuroncore"


def read(name: str) -> dict:
    return yaml.safe_load((EXAMPLES / name).read_text())


@pytest.mark.seconds
@pytest.mark.parametrize("name", ["serve.yaml", "rayservice.yaml"])
def test_serve_takes_the_configuration_and_its_address_is_the_one_of_the_options(name):
    content = read(name)
    config = yaml.safe_load(content["spec"]["serveConfigV2"]) if name == "rayservice.yaml" else content
    from ray.serve.schema import ServeDeploySchema

    deployed = ServeDeploySchema.model_validate(config)
    (application,) = deployed.applications
    options = ServeOptions(**application.args)
    assert (options.host, options.port) == (deployed.http_options.host, deployed.http_options.port)
    module, _, name = application.import_path.partition(":")
    source = Path(__file__).parents[2] / f"{module.replace('.', '/')}.py"
    assert f"def {name}(" in source.read_text()
    assert options.replicas * 8 == 2 * get_instance("trn1.32xlarge").logical_cores()


def test_the_cluster_has_the_cores_of_its_instances():
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = read("cluster.yaml")
    validate_config(prepare_config(cluster))
    for node in cluster["available_node_types"].values():
        instance = get_instance(node["node_config"]["InstanceType"])
        assert node["resources"]["neuron_cores"] == instance.logical_cores()


def test_each_worker_pod_asks_for_all_cores_of_its_instance():
    (group,) = read("rayservice.yaml")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    asked = pod["containers"][0]["resources"]["limits"]
    instance = get_instance(pod["nodeSelector"]["node.kubernetes.io/instance-type"])
    assert int(asked[CORES]) == instance.logical_cores()
    assert asked == pod["containers"][0]["resources"]["requests"]
