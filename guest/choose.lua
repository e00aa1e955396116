-- Picks the kernel by the machine's PCI devices: the cloud kernel, unless one of these needs a driver it lacks.
local pci = require "pci"
local syslinux = require "syslinux"

local full = {
  [0x80862922] = true,  -- AHCI, always there on q35
  [0x8086100e] = true,  -- e1000
  [0x808610d3] = true,  -- e1000e
  [0x10ec8139] = true,  -- rtl8139
  [0x10ec8029] = true,  -- ne2k_pci
  [0x10222000] = true,  -- pcnet
  [0x10000012] = true,  -- lsilogic: sym53c895a
}

local label = "cloud"
for _, device in pairs(pci.getinfo()) do
  if full[device.vendor * 65536 + device.product] then label = "full" end
end
syslinux.run_command(label)
