"""A bank of faults in backward passes: one half to develop the diagnosis with, one half to examine it."""

import bank_dev_arrays
import bank_dev_attention
import bank_dev_layers
import bank_dev_losses
import bank_dev_networks
import bank_exam_arrays
import bank_exam_attention
import bank_exam_layers
import bank_exam_losses
import bank_exam_networks


def faults_of(*modules):
    return [fault for module in modules for fault in module.FAULTS]


FAULTS_DEV = faults_of(bank_dev_layers, bank_dev_networks, bank_dev_attention, bank_dev_losses, bank_dev_arrays)
FAULTS_EXAM = faults_of(bank_exam_layers, bank_exam_networks, bank_exam_attention, bank_exam_losses, bank_exam_arrays)
