"""Reads metadata services and media with the code of cloud-init and of Azure's agent.

Started by ci/metadata, with the packages' folders in PYTHONPATH, in a folder with the files that were
given to nodekiln (keys.txt, user-data) and what it said of the instance (CLOUD.json). Each function is
one case; an assertion that fails is told by its exit code.
"""

import inspect
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from unittest import mock

KEYS = pathlib.Path("keys.txt").read_text().splitlines() if os.path.exists("keys.txt") else []
USER_DATA = pathlib.Path("user-data").read_bytes() if os.path.exists("user-data") else b""
MAC = "52:54:00:6e:6b:07"
METADATA = "http://169.254.169.254"
WIRESERVER = "168.63.129.16"

# Names of SMBIOS strings: ours, cloud-init's, and those of /sys/class/dmi/id.
DMI = {
    (0, "vendor"): ("bios-vendor", "bios_vendor"),
    (1, "manufacturer"): ("system-manufacturer", "sys_vendor"),
    (1, "product"): ("system-product-name", "product_name"),
    (1, "version"): ("system-version", "product_version"),
    (1, "serial"): ("system-serial-number", "product_serial"),
    (1, "uuid"): ("system-uuid", "product_uuid"),
    (2, "manufacturer"): ("baseboard-manufacturer", "board_vendor"),
    (2, "product"): ("baseboard-product-name", "board_name"),
    (2, "serial"): ("baseboard-serial-number", "board_serial"),
    (2, "asset"): ("baseboard-asset-tag", "board_asset_tag"),
    (3, "serial"): ("chassis-serial-number", "chassis_serial"),
    (3, "asset"): ("chassis-asset-tag", "chassis_asset_tag"),
    (3, "manufacturer"): ("chassis-manufacturer", "chassis_vendor"),
}


def ready(cloud):
    return json.loads(pathlib.Path(cloud + ".json").read_text())


def strings(cloud, column):
    told = ready(cloud)["instance"]["smbios"]
    return {DMI[s["type"], s["field"]][column]: s["text"] for s in told}


def same(found, expected):
    if found != expected:
        sys.exit(f"found {found!r}, not {expected!r}")


def source(kind, cloud):
    """A datasource as cloud-init makes it, on a machine with the cloud's SMBIOS strings."""
    from cloudinit import distros, dmi, helpers

    known = strings(cloud, 0)
    mock.patch.object(dmi, "read_dmi_data", lambda name: known.get(name)).start()
    folder = tempfile.mkdtemp(dir=".")
    paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder})
    return kind({"datasource_list": [kind.dsname]}, distros.fetch("debian")("debian", {}, paths), paths)


def call(function, *arguments, **options):
    """Calls with those of the options that this version of the function has."""
    wrapped = inspect.getclosurevars(function).nonlocals.get("func", function)  # cloud-init's decorators
    known = inspect.signature(wrapped).parameters
    return function(*arguments, **{name: value for name, value in options.items() if name in known})


def plain(keys):
    return [key.strip() for key in keys]


def version():
    from cloudinit.version import version_string

    print(version_string())


def aws():
    from cloudinit.sources import DataSourceEc2 as module

    found = source(module.DataSourceEc2, "aws")
    same(str(found.cloud_name), "aws")
    same(found._get_data(), True)
    instance = ready("aws")["instance"]
    same(found.get_instance_id(), instance["id"])
    same(found.userdata_raw, USER_DATA)
    same(sorted(plain(found.get_public_ssh_keys())), sorted(KEYS))
    same((found.availability_zone, found.region), ("us-east-1a", "us-east-1"))
    same(found.metadata["local-hostname"], instance["fqdn"])
    same(found.identity["instanceId"], instance["id"])
    convert = module.convert_ec2_metadata_network_config
    cards = {"macs_to_nics": {MAC: "eth0"}, "fallback_nic": "eth0"}
    config = call(convert, found.metadata["network"], distro=found.distro, **cards)
    same(config["ethernets"]["eth0"]["match"]["macaddress"], MAC)
    same(config["ethernets"]["eth0"]["dhcp4"], True)


def aws_refused():
    from cloudinit.sources import DataSourceEc2 as module

    same(source(module.DataSourceEc2, "aws")._get_data(), False)


def gce():
    from cloudinit.sources import DataSourceGCE as module

    found = source(module.DataSourceGCE, "gce")
    same(found._get_data(), True)
    instance = ready("gce")["instance"]
    same(found.get_instance_id(), instance["id"])
    same(found.userdata_raw, USER_DATA)
    same(plain(found.get_public_ssh_keys()), KEYS)
    same((found.availability_zone, found.region), ("europe-west1-b", "europe-west1"))
    same(found.metadata["local-hostname"], instance["fqdn"])
    found.publish_host_keys([("ssh-ed25519", "AAAA")])


def check_openstack(told):
    from cloudinit.sources.helpers import openstack

    same(told["metadata"]["uuid"], ready("openstack")["instance"]["id"])
    same(told["metadata"]["local-hostname"], ready("openstack")["instance"]["fqdn"])
    same(sorted(told["metadata"]["public_keys"].values()), sorted(KEYS))
    same(told["userdata"], USER_DATA)
    same(len(told["metadata"]["random_seed"]), 512)
    config = openstack.convert_net_json(told["networkdata"], known_macs={MAC: "eth0"})
    same(config["config"][0]["mac_address"], MAC)
    same(config["config"][0]["subnets"], [{"type": "dhcp4"}])


def openstack():
    from cloudinit.sources import DataSourceOpenStack as module

    found = source(module.DataSourceOpenStack, "openstack")
    same(found._get_data(), True)
    same(found.version, 2)
    same(found.get_instance_id(), ready("openstack")["instance"]["id"])
    from cloudinit.sources.helpers import openstack as helper

    check_openstack(helper.MetadataReader(METADATA).read_v2())


def check_nocloud(told):
    same(told["meta-data"]["instance-id"], ready("nocloud")["instance"]["id"])
    same(told["meta-data"]["local-hostname"], "node-7")
    same(told["meta-data"]["public-keys"], KEYS)
    same(told["user-data"], USER_DATA)


def nocloud():
    from cloudinit import util

    told, vendor, *more = util.read_seeded(METADATA + "/")[:3], None
    metadata, userdata = told[0], told[1]
    check_nocloud({"meta-data": metadata, "user-data": userdata})


def azure():
    import base64

    from cloudinit.sources import DataSourceAzure as module
    from cloudinit.sources.helpers import azure as helper

    if hasattr(module, "imds"):
        told = call(module.imds.fetch_metadata_with_api_fallback, retry_deadline=time.monotonic() + 30)
    else:  # up to 22.4
        told = source(module.DataSourceAzure, "azure").get_imds_data_with_api_fallback(retries=2)
    same(told["compute"]["osProfile"]["computerName"], "node-7")
    same([key["keyData"] for key in told["compute"]["publicKeys"]], KEYS)
    if hasattr(module, "_key_is_openssh_formatted"):
        same([module._key_is_openssh_formatted(key) for key in KEYS], [True, True])
    same(base64.b64decode(told["compute"]["userData"]), USER_DATA)
    same(told["compute"]["vmId"], ready("azure")["instance"]["id"])
    same(told["extended"]["compute"]["hasCustomData"], True)
    convert = module.generate_network_config_from_instance_network_metadata
    ways = {"apply_network_config_for_secondary_ips": True, "apply_network_config_set_name": True}
    network = call(convert, told["network"], **ways)
    same(network["ethernets"]["eth0"]["match"]["macaddress"], MAC)
    call(helper.get_metadata_from_fabric, endpoint=WIRESERVER, distro=None)


def report(events):
    """Ready and a failure, to the services at the address that `events` names."""
    from cloudinit.sources import DataSourceAzure  # first: the two import each other
    from cloudinit.sources.helpers import azure as helper

    address = json.loads(open(events).readline())["addresses"][0]
    call(helper.get_metadata_from_fabric, endpoint=address, distro=None)
    shim = helper.WALinuxAgentShim(endpoint=address)
    shim.register_with_azure_and_report_failure(description="it's <broken> & lost")


def reported(events):
    told = [json.loads(line) for line in open(events)]
    health = told[-1]["observed"]["health"]
    same([(one["state"], one["substatus"]) for one in health], [("Ready", None), ("NotReady", "ProvisioningFailed")])
    same(health[1]["description"], "it's <broken> & lost")


def agent():
    """Azure's agent: protocol versions, goal state with all that it links to, report, role properties."""
    from azurelinuxagent.common import conf
    from azurelinuxagent.common.protocol import wire

    folder = tempfile.mkdtemp()
    conf.get_lib_dir = lambda *_: folder
    for name in ("get_conf_file_path", "get_ext_log_dir"):
        if hasattr(conf, name):
            setattr(conf, name, lambda *_: folder)
    try:  # newer agents ask the metadata service first
        from azurelinuxagent.ga.confidential_vm_info import ConfidentialVMInfo

        ConfidentialVMInfo.fetch_and_initialize_cvm_info()
        same(ConfidentialVMInfo.is_confidential_vm(), False)
    except ImportError:
        pass
    protocol = wire.WireProtocol(WIRESERVER)
    protocol.detect()
    state = protocol.client.get_goal_state()
    same(state.incarnation, "1")
    if hasattr(protocol.client, "get_hosting_env"):  # the newest do not ask for it any more
        same(protocol.client.get_hosting_env().role_name, "node-7")
        same(protocol.client.get_hosting_env().vm_name, state.role_instance_id)
    # The newest are told which goal state they speak of.
    about = [state] if "goal_state" in inspect.signature(protocol.client.report_health).parameters else []
    protocol.client.report_health(*about, "Ready", None, None)
    protocol.client.report_role_prop(*about, "thumbprint")


def medium_azure(folder):
    from cloudinit.sources import DataSourceAzure as module

    metadata, userdata, config, files = module.load_azure_ds_dir(folder)
    same(metadata["local-hostname"], "node-7")
    same(userdata, USER_DATA)
    same(config["ssh_pwauth"], False)
    same([key["value"] for key in config["_pubkeys"]], KEYS)
    same(config["system_info"]["default_user"]["name"], "capi")
    same(list(files), ["ovf-env.xml"])
    from azurelinuxagent.common.protocol import ovfenv  # once more, as the agent reads it

    told = ovfenv.OvfEnv(open(folder + "/ovf-env.xml").read())
    same((told.hostname, told.username), ("node-7", "capi"))
    same([value for _, _, value in told.ssh_pubkeys], KEYS)


def medium_openstack(folder):
    from cloudinit.sources.helpers import openstack as helper

    told = helper.ConfigDriveReader(os.path.abspath(folder)).read_v2()
    check_openstack(told)
    same(told["ec2-metadata"]["instance-id"], ready("openstack")["instance"]["id"])


def medium_vsphere(folder):
    from cloudinit.sources import DataSourceOVF as module

    name, text = module.get_ovf_env(folder)
    same(name, "ovf-env.xml")
    metadata, userdata, _ = module.read_ovf_environment(text, read_network=True)
    same(metadata["local-hostname"], "node-7")
    same(metadata["public-keys"].splitlines(), KEYS)
    same(userdata, USER_DATA)
    same(metadata["network-config"]["ethernets"]["primary"]["match"]["macaddress"], MAC)


def medium_nocloud(folder):
    from cloudinit import util

    told = util.pathprefix2dict(folder, required=["user-data", "meta-data"])
    check_nocloud({"meta-data": util.load_yaml(told["meta-data"]), "user-data": told["user-data"]})


def log_aws(log):
    """The journal of one crawl: a token first, then everything with it, and the user-data once."""
    told = [json.loads(line) for line in open(log)]
    told = [one for one in told if one["kind"] == "http"]
    same((told[0]["method"], told[0]["path"]), ("PUT", "/latest/api/token"))
    for one in told[1:]:
        same("x-aws-ec2-metadata-token" in one["headers"], True)
    same(len([one for one in told if one["path"].endswith("/user-data")]), 1)
    # Dated paths only; all there but what is tried and may be missing.
    same({one["path"].split("/")[1] for one in told[1:]}, {"2021-03-23"})
    same([one["path"] for one in told if one["status"] not in (200, 404)], [])


def run_ds_identify(program, root, blkid):
    tools = pathlib.Path(root, "tools")
    tools.mkdir()

    def tool(name, text):
        (tools / name).write_text("#!/bin/sh\n" + text)
        (tools / name).chmod(0o755)

    tool("systemd-detect-virt", 'case "$*" in *-c*|*container*) echo none; exit 1;; esac\necho kvm\n')
    tool("blkid", "cat <<'END'\n" + blkid + "\nEND\n")
    for folder in ("sys/class/dmi/id", "run", "var/lib/cloud", "etc/cloud", "proc", "dev"):
        pathlib.Path(root, folder).mkdir(parents=True, exist_ok=True)
    pathlib.Path(root, "proc/cmdline").write_text("root=/dev/vda\n")
    pathlib.Path(root, "proc/uptime").write_text("1.0 1.0\n")
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "PATH_ROOT": root, "DI_LOG": "stderr", "DEBUG_LEVEL": "1"}
    done = subprocess.run(["sh", program, "--force"], env=environment, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    same(done.returncode, 0)
    config = pathlib.Path(root, "run/cloud-init/cloud.cfg").read_text()
    return config.split("datasource_list: [")[1].split("]")[0].replace(" ", "").split(",")


SOURCES = {"aws": "Ec2", "azure": "Azure", "gce": "GCE", "openstack": "OpenStack"}


def identify(cloud, program):
    root = tempfile.mkdtemp(dir=os.getcwd())
    folder = pathlib.Path(root, "sys/class/dmi/id")
    folder.mkdir(parents=True)
    for name, text in strings(cloud, 1).items():
        (folder / name).write_text(text + "\n")
    same(run_ds_identify(program, root, ""), [SOURCES[cloud], "None"])


def identify_medium(cloud, program):
    """By what the real blkid says of the medium, as if it were in a drive."""
    root = tempfile.mkdtemp(dir=os.getcwd())
    told = subprocess.run(["/usr/sbin/blkid", "-p", "-o", "export", cloud + ".img"], capture_output=True, text=True)
    same(told.returncode, 0)
    lines = [line for line in told.stdout.splitlines() if not line.startswith("DEVNAME=")]
    found = run_ds_identify(program, root, "\n".join(["DEVNAME=/dev/sr0", *lines]))
    expected = {"openstack": "ConfigDrive", "vsphere": "OVF", "nocloud": "NoCloud"}[cloud]
    same(expected in found, True)
    same([one for one in found if one not in (expected, "None")], [])


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    case, *arguments = sys.argv[1:]
    {name.replace("_", "-"): value for name, value in list(globals().items())}[case](*arguments)
