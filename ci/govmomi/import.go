// Imports an OVA into govmomi's simulator of vCenter as Cluster API's users do with the real one: the
// descriptor becomes an import specification, the disk is uploaded over the lease that the import opens,
// and the machine becomes a template. Writes what came of it as JSON; the simulator prints what it likes.
//
//	import FILE.ova RESULT.json
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// What the import made.
type imported struct {
	Name     string            `json:"name"`
	Template bool              `json:"template"`
	Guest    string            `json:"guest"`
	Hardware string            `json:"hardware"`
	CPUs     int32             `json:"cpus"`
	Memory   int32             `json:"memory"`
	Devices  []string          `json:"devices"`
	Capacity int64             `json:"capacity"`
	Keys     map[string]string `json:"properties"`
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// members reads the descriptor and the manifest, and checks the digests of all members.
func members(path string) string {
	file, err := os.Open(path)
	must(err)
	defer file.Close()
	var descriptor, manifest string
	digests := map[string]string{}
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		must(err)
		var text bytes.Buffer
		digest := sha256.New()
		into := io.Writer(digest)
		if !strings.HasSuffix(header.Name, ".vmdk") {
			into = io.MultiWriter(digest, &text)
		}
		_, err = io.Copy(into, archive)
		must(err)
		digests[header.Name] = hex.EncodeToString(digest.Sum(nil))
		switch filepath.Ext(header.Name) {
		case ".ovf":
			descriptor = text.String()
		case ".mf":
			manifest = text.String()
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(manifest), "\n") {
		var name, digest string
		parts := strings.SplitN(strings.TrimPrefix(line, "SHA256("), ")= ", 2)
		if len(parts) == 2 {
			name, digest = parts[0], parts[1]
		}
		if digests[name] != digest || digest == "" {
			log.Fatalf("the manifest says %q, the archive has %q", line, digests[name])
		}
	}
	return descriptor
}

// upload hands a member of the archive to `do`.
func upload(path, name string, do func(io.Reader, int64) error) {
	file, err := os.Open(path)
	must(err)
	defer file.Close()
	archive := tar.NewReader(file)
	for {
		header, err := archive.Next()
		must(err)
		if header.Name == name {
			must(do(archive, header.Size))
			return
		}
	}
}

func main() {
	log.SetFlags(0)
	path := os.Args[1]
	descriptor := members(path)
	envelope, err := ovf.Unmarshal(strings.NewReader(descriptor))
	must(err)

	ctx := context.Background()
	model := simulator.VPX()
	defer model.Remove()
	must(model.Create())
	model.Service.TLS = new(tls.Config) // leases give addresses with https
	server := model.Service.NewServer()
	defer server.Close()
	client, err := govmomi.NewClient(ctx, server.URL, true)
	must(err)

	finder := find.NewFinder(client.Client, false)
	center, err := finder.DefaultDatacenter(ctx)
	must(err)
	finder.SetDatacenter(center)
	store, err := finder.DefaultDatastore(ctx)
	must(err)
	pool, err := finder.ResourcePool(ctx, "DC0_C0/Resources")
	must(err)
	folders, err := center.Folders(ctx)
	must(err)
	network, err := finder.Network(ctx, "VM Network")
	must(err)

	mapping := []types.OvfNetworkMapping{}
	for _, wanted := range envelope.Network.Networks {
		mapping = append(mapping, types.OvfNetworkMapping{Name: wanted.Name, Network: network.Reference()})
	}
	name := envelope.VirtualSystem.ID
	spec, err := ovf.NewManager(client.Client).CreateImportSpec(ctx, descriptor, pool, store, types.OvfCreateImportSpecParams{
		EntityName: name, NetworkMapping: mapping, DiskProvisioning: string(types.OvfCreateImportSpecParamsDiskProvisioningTypeThin),
	})
	must(err)
	for _, fault := range append(spec.Error, spec.Warning...) {
		log.Fatal(fault.LocalizedMessage)
	}

	lease, err := pool.ImportVApp(ctx, spec.ImportSpec, folders.VmFolder, nil)
	must(err)
	info, err := lease.Wait(ctx, spec.FileItem)
	must(err)
	made := imported{Keys: map[string]string{}}
	for _, item := range info.Items {
		updater := lease.StartUpdater(ctx, info)
		upload(path, item.Path, func(reader io.Reader, size int64) error {
			return lease.Upload(ctx, item, reader, soap.Upload{ContentLength: size})
		})
		updater.Done()
	}
	must(lease.Complete(ctx))

	machine := object.NewVirtualMachine(client.Client, info.Entity)
	must(machine.MarkAsTemplate(ctx))
	var about mo.VirtualMachine
	must(machine.Properties(ctx, machine.Reference(), nil, &about))
	made.Name, made.Template = about.Name, about.Config.Template
	made.Guest, made.Hardware = about.Config.GuestId, about.Config.Version
	made.CPUs, made.Memory = about.Config.Hardware.NumCPU, about.Config.Hardware.MemoryMB
	for _, device := range object.VirtualDeviceList(about.Config.Hardware.Device) {
		made.Devices = append(made.Devices, object.VirtualDeviceList{}.Type(device))
		if disk, is := device.(*types.VirtualDisk); is {
			made.Capacity = disk.CapacityInBytes
			if made.Capacity == 0 {
				made.Capacity = disk.CapacityInKB * 1024
			}
		}
	}
	for _, product := range envelope.VirtualSystem.Product {
		for _, property := range product.Property {
			value := ""
			if property.Default != nil {
				value = *property.Default
			}
			made.Keys[property.Key] = value
		}
	}
	text, err := json.MarshalIndent(made, "", "  ")
	must(err)
	must(os.WriteFile(os.Args[2], text, 0o644))
}
